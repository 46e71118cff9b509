"""BGP sessions: RTE-001."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from helpers import bird
from helpers.bird import Session
from helpers.calico import ADDRESS_ANNOTATIONS
from helpers.kube_errors import KubeError
from helpers.model import FAMILIES, Family, IPAddress
from helpers.platforms import CalicoNode
from helpers.verdicts import Inconclusive
from helpers.views import NodeView

Recorded = Callable[[str], Any]
IPV4, IPV6 = FAMILIES
FILES = {IPV4: "bird.txt", IPV6: "bird6.txt"}


def sessions(recorded: Recorded, family: Family) -> list[Session]:
    return bird.parse_sessions(recorded(FILES[family]).splitlines())


@pytest.fixture
def addresses(nodes: list[NodeView]) -> dict[str, IPAddress | None]:
    return bird.bgp_addresses(nodes, IPV6)


def judged(
    mine: list[Session] | None, addresses: dict[str, IPAddress | None], *, mesh: bool = True
) -> list[str]:
    return bird.session_findings(IPV6, {"control-plane": mine}, addresses, mesh=mesh)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_sessions_are_good(
    recorded: Recorded, nodes: list[NodeView], family: Family
) -> None:
    mine = sessions(recorded, family)
    expected = {node.internal_ips.of(family) for node in nodes if node.name != "control-plane"}
    assert {session.neighbour for session in mine} == expected
    assert all(session.established for session in mine)
    found = bird.session_findings(
        family, {"control-plane": mine}, bird.bgp_addresses(nodes, family), mesh=True
    )
    assert found == []


def test_rte_001_a_session_that_is_down(
    recorded: Recorded, addresses: dict[str, IPAddress | None]
) -> None:
    """As BIRD shows it while TCP/179 is dropped."""
    text = recorded("bird6.txt")
    line = next(line for line in text.splitlines() if line.startswith("Mesh_fd00_10_243__4"))
    down = "Mesh_fd00_10_243__4 BGP      master   start  06:41:02    Connect       "
    mine = bird.parse_sessions(text.replace(line, down).splitlines())
    (found,) = judged(mine, addresses)
    assert found.startswith(
        "BIRD6 on control-plane: session to worker2 (fd00:10:243::4) is not Established but start "
        "Connect since 06:41:02: look for what blocks TCP/179 over IPv6 between them"
    )


def test_rte_001_a_session_that_was_never_written(
    recorded: Recorded, addresses: dict[str, IPAddress | None]
) -> None:
    mine = [s for s in sessions(recorded, IPV6) if s.neighbour != addresses["worker"]]
    (found,) = judged(mine, addresses)
    assert "BIRD6 on control-plane has no session to worker (fd00:10:243::3), only to" in found


def test_rte_001_calico_has_no_address(recorded: Recorded, nodes: list[NodeView]) -> None:
    """The node registers an IPv6 InternalIP, Calico does not know it: told once, not per pair."""
    key = ADDRESS_ANNOTATIONS[IPV6]
    bare = [
        replace(n, annotations={k: v for k, v in n.annotations.items() if k != key})
        if n.name == "worker"
        else n
        for n in nodes
    ]
    mine = [s for s in sessions(recorded, IPV6) if str(s.neighbour) != "fd00:10:243::3"]
    found = bird.session_findings(
        IPV6,
        {"control-plane": mine, "worker": []},
        bird.bgp_addresses(bare, IPV6),
        mesh=True,
    )
    assert found == [
        "Calico has no IPv6 address for node worker: BIRD6 has no session to it and its IPv6 "
        "blocks are not routed; see CFG-012"
    ]


def test_without_notes_of_calico_the_internal_ip_has_to_do(nodes: list[NodeView]) -> None:
    bare = [replace(node, annotations={}) for node in nodes]
    assert bird.bgp_addresses(bare, IPV6) == bird.bgp_addresses(nodes, IPV6)


def test_rte_001_a_daemon_that_does_not_answer(addresses: dict[str, IPAddress | None]) -> None:
    (found,) = judged(None, addresses)
    assert "BIRD6 on control-plane does not answer on its control socket" in found


def test_rte_001_route_reflectors(addresses: dict[str, IPAddress | None]) -> None:
    up = Session("Node_rr", ip_address("fd00::1"), "up", "Established", "06:00")
    down = replace(up, state="start", info="Active Socket: Connection refused")
    assert judged([up], addresses, mesh=False) == []
    assert "session to fd00::1 is not Established" in judged([up, down], addresses, mesh=False)[0]
    assert "has no IPv6 session at all" in judged([], addresses, mesh=False)[0]


def test_one_node_has_nobody_to_peer_with(addresses: dict[str, IPAddress | None]) -> None:
    with pytest.raises(Inconclusive):
        judged([], {"control-plane": addresses["control-plane"]})


def test_the_mesh_is_on_unless_it_is_switched_off() -> None:
    off = {"metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": False}}
    assert bird.mesh_enabled([])
    assert bird.mesh_enabled([{"metadata": {"name": "default"}}])
    assert not bird.mesh_enabled([off])


class FakeKube:
    def __init__(self, error: str | None) -> None:
        self.error = error

    def exec(self, *_: object, **__: object) -> str:
        if self.error:
            raise KubeError(self.error)
        return ""


def test_rte_001_what_calico_nodes_own_check_says(calico_nodes: dict[str, CalicoNode]) -> None:
    passing: Any = FakeKube(None)
    assert bird.readiness_refusal(passing, calico_nodes["worker"], IPV6) is None
    failing: Any = FakeKube("['calico-node'] in p ended with 1: BIRD6 is not ready: BGP not est")
    said = bird.readiness_refusal(failing, calico_nodes["worker"], IPV6)
    assert said is not None
    assert said.startswith("calico-node -bird6-ready on worker fails: 1: BIRD6 is not ready")
    silent: Any = FakeKube("exec into p could not be opened: timed out")
    with pytest.raises(Inconclusive, match="could not be opened"):
        bird.readiness_refusal(silent, calico_nodes["worker"], IPV6)
