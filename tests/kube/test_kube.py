"""The edge to the Kubernetes API: what it asks, what it retries, how it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.kube import ApiError, Kube, KubeError

if TYPE_CHECKING:
    from tests.kube.conftest import FakeApi

BUSY = (429, {"reason": "TooManyRequests", "message": "slow down"})
BROKEN = (500, {"reason": "InternalError", "message": "etcd is away"})
VERSION = (200, {"major": "1", "minor": "36"})


def test_passing_failures_are_tried_again(api: FakeApi, kube: Kube) -> None:
    api.on("GET", "/version", BUSY, BROKEN, VERSION)
    assert kube.version()["minor"] == "36"
    assert len(api.asked) == 3


def test_a_lasting_failure_is_raised_with_the_servers_words(api: FakeApi, kube: Kube) -> None:
    api.on("GET", "/version", BROKEN)
    with pytest.raises(ApiError, match="etcd is away") as caught:
        kube.version()
    assert caught.value.status == 500


def test_a_refusal_is_not_tried_again(api: FakeApi, kube: Kube) -> None:
    api.on("POST", "/api/v1/namespaces/a/pods", (422, {"reason": "Invalid", "message": "no"}))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}}
    with pytest.raises(ApiError) as caught:
        kube.create(pod)
    assert caught.value.reason == "Invalid"
    assert [method for method, _, _ in api.asked] == ["GET", "POST"]


def test_no_server_is_said_with_its_address(tmp_path: Path, kube: Kube, api: FakeApi) -> None:
    kube._host = "http://127.0.0.1:9"
    with pytest.raises(KubeError, match=r"127\.0\.0\.1:9 does not answer"):
        kube.version()


def test_a_kubeconfig_without_the_context_is_an_error(tmp_path: Path, kube: Kube) -> None:
    with pytest.raises(KubeError, match="nosuch"):
        Kube(kube.kubeconfig, "nosuch")


def test_missing_objects_are_none(api: FakeApi, kube: Kube) -> None:
    assert kube.get("v1", "Pod", "gone", "a") is None
    assert kube.delete("v1", "Pod", "gone", "a") is False


def test_a_kind_that_is_not_served_is_named(kube: Kube) -> None:
    with pytest.raises(LookupError, match="Wheel in v1"):
        kube.resource("v1", "Wheel")
    assert kube.calico("IPPool") == []


def test_namespaces_are_applied_before_what_lives_in_them(api: FakeApi, kube: Kube) -> None:
    api.on("PATCH", "/api/v1/namespaces/a", (200, {}))
    api.on("PATCH", "/api/v1/namespaces/a/configmaps/c", (200, {}))
    kube.apply(
        [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a"}},
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
        ]
    )
    patched = [path for method, path, _ in api.asked if method == "PATCH"]
    assert [path.partition("?")[0] for path in patched] == [
        "/api/v1/namespaces/a",
        "/api/v1/namespaces/a/configmaps/c",
    ]
    assert all("fieldManager=dualstack-conformance" in path for path in patched)


def test_a_refused_apply_names_the_object(api: FakeApi, kube: Kube) -> None:
    api.on("PATCH", "/api/v1/namespaces/a", (403, {"reason": "Forbidden", "message": "no"}))
    with pytest.raises(ApiError) as caught:
        kube.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}])
    assert caught.value.__notes__ == ["while applying Namespace /a"]


def test_a_creation_whose_answer_was_lost_is_found_again(api: FakeApi, kube: Kube) -> None:
    taken = (409, {"reason": "AlreadyExists", "message": "pods p already exists"})
    api.on("POST", "/api/v1/namespaces/a/pods", BROKEN, taken)
    api.on("GET", "/api/v1/namespaces/a/pods/p", (200, {"metadata": {"uid": "1"}}))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}}
    assert kube.create(pod)["metadata"]["uid"] == "1"


def test_a_name_that_was_taken_before_is_a_refusal(api: FakeApi, kube: Kube) -> None:
    taken = (409, {"reason": "AlreadyExists", "message": "pods p already exists"})
    api.on("POST", "/api/v1/namespaces/a/pods", taken)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}}
    with pytest.raises(ApiError, match="AlreadyExists"):
        kube.create(pod)
