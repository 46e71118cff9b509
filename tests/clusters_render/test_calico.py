"""Installing and waiting, against a cluster that is a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from clusters.calico import (
    NAMESPACE,
    Session,
    bird_sessions,
    install,
    parse_protocols,
    read_documents,
    wait_ready,
)
from clusters.render_calico import ManifestError
from clusters.spec import ClusterSpec, load_profile
from helpers.kube import ApiError, Kube, KubeError
from helpers.model import FAMILIES, Family
from helpers.views import NodeView, PodView
from helpers.waiting import NotSettled

NODES = ("dsc-control-plane", "dsc-worker", "dsc-worker2")


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def node(name: str, ready: bool) -> NodeView:
    condition = {"type": "Ready", "status": str(ready)}
    return NodeView.from_api({"metadata": {"name": name}, "status": {"conditions": [condition]}})


def pod(name: str, on: str, waiting: dict[str, str] | None = None) -> PodView:
    states = [{"state": {"waiting": waiting}}] if waiting else []
    return PodView.from_api(
        {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"nodeName": on},
            "status": {"containerStatuses": states},
        }
    )


class Table:
    """Answers of a cluster; every attribute may be changed while it is watched."""

    def __init__(self) -> None:
        self.ready_nodes = 3
        self.node_names = NODES
        self.daemon_ready = 3
        self.controllers = 1
        self.dns = 2
        self.waiting: dict[str, str] | None = None
        self.applied: list[list[tuple[str, str]]] = []
        self.commands: list[tuple[str, list[str]]] = []
        self.output = ""
        self.broken = 0

    def nodes(self) -> list[NodeView]:
        if self.broken:
            self.broken -= 1
            raise KubeError("the API does not answer")
        return [node(name, i < self.ready_nodes) for i, name in enumerate(self.node_names)]

    def pods(self, namespace: str | None = None, selector: str | None = None) -> list[PodView]:
        return [pod(f"calico-node-{i}", on, self.waiting) for i, on in enumerate(self.node_names)]

    def get(self, api: str, kind: str, name: str, namespace: str | None = None) -> Any:
        meta = {"name": name, "generation": 1}
        if kind == "DaemonSet":
            count = self.daemon_ready
            status = {"numberReady": count, "updatedNumberScheduled": 3}
            status |= {"desiredNumberScheduled": 3, "observedGeneration": 1}
            return {"metadata": meta, "status": status}
        wanted = 2 if name == "coredns" else 1
        ready = self.dns if name == "coredns" else self.controllers
        status = {"availableReplicas": ready, "updatedReplicas": wanted, "observedGeneration": 1}
        return {"metadata": meta, "spec": {"replicas": wanted}, "status": status}

    def apply(self, manifests: Any) -> None:
        self.applied.append([(m["kind"], m["metadata"]["name"]) for m in manifests])

    def objects(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        established = {"type": "Established", "status": "True"}
        return [{"metadata": {"name": "t.x"}, "status": {"conditions": [established]}}]

    def exec(
        self, namespace: str, name: str, command: list[str], container: str | None = None
    ) -> str:
        self.commands.append((name, command))
        return self.output


class Bgp:
    """BGP of a mesh in which some sessions may be down."""

    def __init__(self, down: set[tuple[str, Family]] | None = None, until: int = 10**6) -> None:
        self.down = down or set()
        self.until = until
        self.asked = 0

    def __call__(self, node: str, family: Family) -> list[Session]:
        self.asked += 1
        bad = (node, family) in self.down and self.asked <= self.until
        state = ("start", "Active") if bad else ("up", "Established")
        return [Session(f"Mesh_{n}", None, *state) for n in NODES if n != node]


def wait(table: Table, bgp: Any, spec: ClusterSpec | None = None, **options: Any) -> list[str]:
    said: list[str] = []
    wait_ready(
        cast(Kube, table),
        spec or load_profile("blog-3.11"),
        said.append,
        bgp_state=bgp,
        sleeper=Clock(),
        **options,
    )
    return said


def test_ready_cluster_is_told_at_once() -> None:
    assert wait(Table(), Bgp()) == ["Calico is ready"]


@pytest.mark.parametrize("family", FAMILIES)
def test_sessions_of_each_family_are_waited_for_although_pods_are_ready(family: Family) -> None:
    bgp = Bgp({("dsc-worker", family)})
    with pytest.raises(NotSettled, match=f"BGP {family} 4/6") as error:
        wait(Table(), bgp, within=5)
    assert f"BGP {family.other}" not in str(error.value)


def test_sessions_that_come_late_are_enough() -> None:
    said = wait(Table(), Bgp({("dsc-worker", Family.IPV6)}, until=6))
    assert said == ["waiting for Calico: BGP ipv6 4/6", "Calico is ready"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("ready_nodes", 2, "nodes 2/3"),
        ("daemon_ready", 1, "calico-node 1/3"),
        ("controllers", 0, "calico-kube-controllers 0/1"),
        ("dns", 1, "coredns 1/2"),
        ("node_names", NODES[:2], "nodes 2/3"),
    ],
)
def test_each_part_is_waited_for_by_name(field: str, value: Any, expected: str) -> None:
    table, bgp = Table(), Bgp()
    setattr(table, field, value)
    with pytest.raises(NotSettled, match=expected):
        wait(table, bgp, within=3)
    assert bgp.asked == 0, "BGP is asked only when everything else is ready"


def test_image_that_cannot_come_ends_the_wait_at_once() -> None:
    table = Table()
    table.daemon_ready = 0
    table.waiting = {"reason": "ErrImageNeverPull", "message": "image is not present"}
    with pytest.raises(NotSettled, match="ErrImageNeverPull: image is not present"):
        wait(table, Bgp(), within=10**6)


def test_crash_loop_is_told_and_waited_out() -> None:
    table = Table()
    table.daemon_ready = 0
    table.waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    with pytest.raises(NotSettled, match="CrashLoopBackOff") as error:
        wait(table, Bgp(), within=30)
    assert error.value.timeline[-1][0] < 30


def test_api_that_does_not_answer_for_a_moment_is_waited_out() -> None:
    table = Table()
    table.broken = 3
    assert wait(table, Bgp())[-1] == "Calico is ready"


def test_node_that_cannot_be_asked_is_named() -> None:
    def ask(node: str, family: Family) -> list[Session]:
        if node == "dsc-worker2":
            raise KubeError("exec refused")
        return Bgp()(node, family)

    with pytest.raises(NotSettled, match="dsc-worker2 ipv6: exec refused"):
        wait(Table(), ask, within=2)


def test_without_bgp_nobody_is_asked() -> None:
    bgp = Bgp()
    spec = load_profile(
        "blog-3.11",
        {"bgp": "false", "encapsulation.ipv4": "vxlan", "encapsulation.ipv6": "vxlan"},
    )
    assert wait(Table(), bgp, spec) == ["Calico is ready"]
    assert bgp.asked == 0


BIRD_OUTPUT = """\
BIRD v0.3.3+birdv1.6.8 ready.
name     proto    table    state  since       info
static1  Static   master   up     05:31:02
kernel1  Kernel   master   up     05:31:02
Mesh_10_243_0_3 BGP      master   up     05:31:09    Established
Mesh_10_243_0_4 BGP      master   start  05:31:02    Active        Socket: Connection refused
Mesh_fd00_10_243__3 BGP      master   start  05:31:02    Passive
Global_fd00__1 BGP master up 2026-01-02 03:04:05 Established
"""


def test_bird_tells_sessions_and_peers() -> None:
    sessions = parse_protocols(BIRD_OUTPUT)
    assert [(str(s.peer), s.established) for s in sessions] == [
        ("10.243.0.3", True),
        ("10.243.0.4", False),
        ("fd00:10:243::3", False),
        ("fd00::1", True),
    ]
    assert sessions[1].info == "Active Socket: Connection refused"


def test_each_family_has_its_own_daemon() -> None:
    table = Table()
    table.output = BIRD_OUTPUT
    ask = bird_sessions(cast(Kube, table))
    for family in FAMILIES:
        assert len(ask("dsc-worker", family)) == 4
    assert table.commands == [
        ("calico-node-1", ["birdcl", "-s", "/var/run/calico/bird.ctl", "show", "protocols"]),
        ("calico-node-1", ["birdcl6", "-s", "/var/run/calico/bird6.ctl", "show", "protocols"]),
    ]
    with pytest.raises(LookupError, match="no calico-node pod on nowhere"):
        ask("nowhere", Family.IPV4)


def test_workloads_are_applied_after_what_they_need(manifests: dict[str, Path]) -> None:
    table = Table()
    said: list[str] = []
    install(cast(Kube, table), manifests["3.31.0"], load_profile("native"), said.append)
    first, last = table.applied
    assert sorted(last) == [
        ("DaemonSet", "calico-node"),
        ("Deployment", "calico-kube-controllers"),
    ]
    assert ("ServiceAccount", "calico-node") in first
    assert ("ConfigMap", "calico-config") in first
    assert said == [f"applying {len(first) + len(last)} objects of Calico 3.31.0"]


def test_custom_resources_wait_for_their_definitions(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "t.x"},
        "spec": {"group": "x"},
    }
    custom = {"apiVersion": "x/v1", "kind": "T", "metadata": {"name": "one"}}
    released = [
        document
        for document in read_documents(manifests["3.31.0"])
        if document["kind"] != "CustomResourceDefinition"
    ]
    path = tmp_path / "calico.yaml"
    path.write_text(yaml.safe_dump_all([custom, definition, *released]))
    table = Table()
    install(cast(Kube, table), path, load_profile("native"), lambda _: None)
    assert table.applied[-1] == [("T", "one")]


def test_refusal_of_the_api_escapes(manifests: dict[str, Path]) -> None:
    table = Table()

    def refuse(_: Any) -> None:
        raise ApiError(422, "Invalid", "no")

    table.apply = refuse  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        install(cast(Kube, table), manifests["3.31.0"], load_profile("native"), lambda _: None)


@pytest.mark.parametrize("content", [None, "a: ["])
def test_unreadable_manifest_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "calico.yaml"
    if content:
        path.write_text(content)
    with pytest.raises(ManifestError, match=r"calico\.yaml cannot be read"):
        read_documents(path)
