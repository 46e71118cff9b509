"""Upgrades by upstream's manifest: what the cluster is declared to be, and what spoils it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusters import registry, sources, upgrade
from clusters.api import Cluster
from clusters.errors import ClusterError
from clusters.images.versions import pinned
from clusters.render_calico import calico_manifests
from clusters.spec import ClusterSpec, Version, load_profile
from helpers.resilience import rolls
from helpers.resilience.bad_upgrades import KNOWN
from helpers.resilience.rolls import release_findings, require_rolled
from helpers.verdicts import Inconclusive

OLD, NEW = Version.parse("3.30.1"), Version.parse("3.31.0")


def spec(**changes: str) -> ClusterSpec:
    return load_profile("native", {"calico": "3.30.1", "calico_upgrades": "3.31.0", **changes})


def cluster(folder: Path, policy: str = "Never", *, owned: bool = True) -> Cluster:
    return Cluster(
        name="dsc-gate",
        kubeconfig=folder / "kubeconfig",
        context=None,
        spec=spec(),
        owned=owned,
        agent_image="agent",
        agent_image_pull_policy=policy,
        outside=None,
        state=folder / "shared",
    )


@pytest.mark.parametrize("release", ["3.29.0", "3.30.1", "3.31.0"])
def test_releases_that_can_be_upgraded_are_pinned_and_rendered(
    release: str, released_documents: dict[str, list[dict[str, Any]]]
) -> None:
    known = pinned()
    component = known.components[known.calico_version(f"v{release}").component]
    assert (component.path / "go.sum").is_file()
    assert any(f"=v{release}" in flag for flag in component.ldflags)
    documents = calico_manifests(released_documents[release], spec(calico=release))
    images = {
        c["image"]
        for d in documents
        if d["kind"] in ("DaemonSet", "Deployment")
        for c in d["spec"]["template"]["spec"]["containers"]
    }
    prefix = known.calico_version(f"v{release}").image_prefix
    assert images == {f"{prefix}{name}:v{release}" for name in ("node", "kube-controllers")}


def test_nodes_of_one_image_hold_both_releases_whichever_runs() -> None:
    forth = sources._request(spec())
    back = sources._request(spec(calico="3.31.0", calico_upgrades="3.30.1"))
    assert forth == back
    assert forth.calico == ("v3.30.1", "v3.31.0")


def test_a_release_that_the_nodes_do_not_hold_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"--set calico_upgrades=3\.29\.0"):
        sources.calico_manifest(spec(), Version.parse("3.29.0"), built_here=True)


def test_images_that_are_not_there_are_not_built_in_the_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "built_already", lambda _: False)
    with pytest.raises(ClusterError, match="make it anew"):
        sources.calico_manifest(spec(), NEW, built_here=True)


def test_who_reuses_an_upgraded_cluster_finds_the_new_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = cluster(tmp_path)
    file = registry.clusters_dir() / made.name / registry.RECORD_FILE
    registry.write_json(file, {"cluster": made.to_json()})
    reused = registry.reuse(made.name, tmp_path / "run")
    declared = registry.redeclare(reused, spec(calico="3.31.0", calico_upgrades="3.30.1"))
    assert declared.spec.calico == NEW
    again = Cluster.from_json(json.loads(file.read_text())["cluster"])
    assert again == replace(declared, state=made.state), "the state of a run is the run's"


def test_somebody_elses_cluster_has_no_record(tmp_path: Path) -> None:
    made = cluster(tmp_path, owned=False)
    assert registry.redeclare(made, spec(calico="3.31.0")).spec.calico == NEW


def test_an_upgrade_and_its_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifests: dict[str, Path]
) -> None:
    monkeypatch.setattr(sources, "calico_manifest", lambda _, v, **__: manifests[str(v)])
    forth = upgrade.prepared(cluster(tmp_path), NEW)
    assert (forth.old, forth.new, forth.spec.calico_upgrades) == (OLD, NEW, (OLD,))
    back = upgrade.prepared(replace(cluster(tmp_path), spec=forth.spec), OLD)
    assert (back.new, back.spec.calico_upgrades) == (OLD, (NEW,))
    assert upgrade.built_here(cluster(tmp_path))
    assert not upgrade.built_here(cluster(tmp_path, "IfNotPresent"))


def test_what_spoils_an_upgrade_changes_only_that(
    released_documents: dict[str, list[dict[str, Any]]],
) -> None:
    def rendered(name: str | None) -> dict[str, Any]:
        made = calico_manifests(released_documents["3.31.0"], spec(calico="3.31.0"))
        if name is not None:
            KNOWN[name].change(made, "dsc-gate-worker2")
        (node,) = (d for d in made if d["kind"] == "DaemonSet")
        containers: list[dict[str, Any]] = node["spec"]["template"]["spec"]["containers"]
        return containers[0]

    def environment(name: str | None) -> dict[str, Any]:
        return {entry["name"]: entry.get("value") for entry in rendered(name)["env"]}

    good = environment(None)
    assert environment("felix") == {**good, "FELIX_IPV6SUPPORT": "false"}
    assert environment("pool") == {**good, "NO_DEFAULT_POOLS": "true"}
    assert rendered("bgp") == rendered(None)
    crash = rendered("crash")
    assert '"$NODENAME" != dsc-gate-worker2' in crash.pop("command")[2]
    assert "NODENAME" in good
    assert crash == rendered(None), "the image starts start_runit by itself"


def test_a_node_that_keeps_the_old_release_is_a_finding() -> None:
    def pod(node: str, tag: str) -> dict[str, Any]:
        image = f"quay.io/calico/node:{tag}"
        spec = {"nodeName": node, "containers": [{"name": "calico-node", "image": image}]}
        return {"metadata": {"name": f"calico-node-{node}"}, "spec": spec}

    assert release_findings([pod("w1", "v3.31.0")], "v3.31.0") == []
    (told,) = release_findings([pod("w1", "v3.31.0"), pod("w2", "v3.30.1")], "v3.31.0")
    assert "calico-node-w2 on w2: quay.io/calico/node:v3.30.1" in told


def test_a_roll_in_which_nothing_rolled_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifests: dict[str, Path]
) -> None:
    require_rolled(rolls.restart(), ["a", "b"], ["a", "c"])
    with pytest.raises(Inconclusive, match="no calico-node was replaced"):
        require_rolled(rolls.restart(), ["a", "b"], ["b", "a"])
    require_rolled(rolls.watched(1.0, None), ["a"], ["a"])
    monkeypatch.setattr(sources, "calico_manifest", lambda _, v, **__: manifests[str(v)])
    agents = SimpleNamespace(nodes={"w1": None})
    with pytest.raises(Inconclusive, match=r"runs Calico 3\.30\.1 already"):
        rolls.release(cluster(tmp_path), OLD, agents, None)  # type: ignore[arg-type]
