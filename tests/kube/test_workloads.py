"""A test's own pods: what keeps them from being used decides between blocked and inconclusive."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.kube import ApiError, Kube
from helpers.model import FAMILIES, Family
from helpers.verdicts import Blocked, Inconclusive
from helpers.views import PodView
from helpers.workloads import Workloads

DUAL = ("10.244.1.2", "fd00:10:244::2")


def pod(*addresses: str, ready: bool = True, waiting: str | None = None) -> PodView:
    waits = {"waiting": {"reason": waiting}} if waiting else {}
    return PodView.from_api(
        {
            "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": "worker"},
            "status": {
                "phase": "Pending",
                "podIPs": [{"ip": address} for address in addresses],
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": [{"state": waits}],
            },
        }
    )


class Api:
    """The few calls that ``Workloads`` makes, answered from what a test sets."""

    def __init__(self, pods: list[PodView], events: list[dict[str, Any]] | None = None) -> None:
        self.found = pods
        self.events = events or []
        self.refusal: ApiError | None = None
        self.deleted: list[tuple[str, str | None]] = []

    def pods(self, *_: object) -> list[PodView]:
        return self.found

    def objects(self, *_: object, **__: object) -> list[dict[str, Any]]:
        return self.events

    def apply(self, _: object) -> None: ...

    def get(self, *_: object) -> dict[str, Any]:
        return {}

    def delete(self, _: str, kind: str, name: str, namespace: str | None = None) -> bool:
        self.deleted.append((kind, namespace))
        return True

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.refusal:
            raise self.refusal
        manifest["spec"]["clusterIPs"] = ["10.96.0.7"]
        return manifest


def workloads(api: Api) -> Workloads:
    agents = SimpleNamespace(release=lambda _: None)
    cluster = SimpleNamespace(agent_image="agent", agent_image_pull_policy="Never")
    return Workloads(cast(Kube, api), cast(Any, cluster), cast(Any, agents), "SVC-007")


def test_ready_pods_with_both_families_are_returned() -> None:
    (found,) = workloads(Api([pod(*DUAL)])).wait_pods(["p"], within=0)
    assert found.addresses.families == FAMILIES


def test_a_pod_without_a_family_blocks_that_family_alone() -> None:
    made = workloads(Api([pod("10.244.1.2")]))
    with pytest.raises(Blocked, match=r"PODIP-002 \[ipv6\].*worker") as caught:
        made.wait_pods(["p"], within=0)
    assert caught.value.family is Family.IPV6
    assert made.wait_pods(["p"], families=[Family.IPV4], within=0)


def test_a_pod_that_gets_no_address_blocks_with_the_newest_event() -> None:
    events = [
        {"message": "old", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"message": "Assigned 0 out of 1 requested IPv6", "lastTimestamp": "2026-01-01T00:00:09Z"},
    ]
    made = workloads(Api([pod(ready=False)], events))
    with pytest.raises(Blocked, match="Assigned 0 out of 1 requested IPv6") as caught:
        made.wait_pods(["p"], within=0)
    assert caught.value.by == "PODIP-002"


def test_a_pod_with_its_addresses_that_does_not_start_is_inconclusive() -> None:
    made = workloads(Api([pod(*DUAL, ready=False, waiting="ErrImageNeverPull")]))
    with pytest.raises(Inconclusive, match="ErrImageNeverPull"):
        made.wait_pods(["p"], within=0)


def test_a_cluster_without_a_service_range_blocks_services() -> None:
    api = Api([])
    api.refusal = ApiError(422, "Invalid", "IPv6 is not configured on this cluster")
    with pytest.raises(Blocked, match="CFG-004"):
        workloads(api).service()
    with pytest.raises(ApiError):
        workloads(api).service(refusal_fails=True)


def test_another_refusal_of_a_service_is_not_about_families() -> None:
    api = Api([])
    api.refusal = ApiError(403, "Forbidden", "no")
    with pytest.raises(ApiError, match="Forbidden"):
        workloads(api).service()


def test_what_was_made_is_deleted() -> None:
    api = Api([])
    made = workloads(api)
    made.service(namespace="dsc-agents")
    made.service()
    made.close()
    assert ("Service", "dsc-agents") in api.deleted
    assert ("Namespace", None) in api.deleted
