"""Which paths are judged, what their probes must see, and what blocks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from helpers import node_paths, paths
from helpers.calico import IPPool
from helpers.findings import told
from helpers.matrix import Matrix, decide
from helpers.model import DualAddresses, Family, Protocol
from helpers.oneway import OneWay
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Blocked, Inconclusive

NODES = ("control-plane", "worker", "worker2")


@dataclass(eq=False)
class FakeAgent:
    """An agent without a stream: paths need to know no more of it."""

    name: str
    node: str
    addresses: DualAddresses
    port: int = 8080
    asked: list[str] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return self.name


@dataclass
class FakePool:
    pods: dict[str, Any]
    peers: dict[str, Any]
    nodes: dict[str, Any]


def pool(names: tuple[str, ...] = NODES) -> Any:
    def agents(title: str, four: str, six: str) -> dict[str, FakeAgent]:
        return {
            node: FakeAgent(
                f"{title} on {node}",
                node,
                DualAddresses.parse([four.format(n), six.format(n)]),
            )
            for n, node in enumerate(names)
        }

    return FakePool(
        pods=agents("pod agent", "10.244.{}.5", "fd00:10:244:{}::5"),
        peers=agents("peer agent", "10.244.{}.6", "fd00:10:244:{}::6"),
        nodes=agents("node agent", "10.243.0.{}", "fd00:10:243::{}"),
    )


def test_every_ordered_pair_of_nodes_is_judged() -> None:
    found = paths.between_nodes(pool())

    assert {p.nodes for p in found} == {(a, b) for a in NODES for b in NODES if a != b}
    assert (
        str(found[0].cell(Family.IPV6, "tcp")) == "ipv6 tcp pod on control-plane -> pod on worker"
    )


def test_the_ring_has_each_node_once_at_each_end() -> None:
    ring = paths.around_nodes(pool())

    assert [p.nodes[0] for p in ring] == list(NODES)
    assert sorted(p.nodes[1] for p in ring) == sorted(NODES)
    assert not any(p.within_node for p in ring)
    assert paths.around_nodes(pool(NODES[:1])) == []


def test_paths_within_nodes_go_both_ways() -> None:
    found = paths.within_nodes(pool())

    assert len(found) == 2 * len(NODES)
    assert {p.names for p in found if p.nodes[0] == "worker"} == {
        ("pod on worker", "second pod on worker"),
        ("second pod on worker", "pod on worker"),
    }


def test_nodes_and_pods_include_the_own_node() -> None:
    assert len(paths.from_nodes(pool())) == len(paths.to_nodes(pool())) == len(NODES) ** 2


def test_a_cut_node_pair_is_left_out_both_ways() -> None:
    left = paths.undisturbed(paths.between_nodes(pool()), {("worker", "worker2")}, Family.IPV6)

    assert len(left) == 4
    assert not any(set(p.nodes) == {"worker", "worker2"} for p in left)


def test_no_path_left_is_blocked_and_not_passed() -> None:
    two = paths.between_nodes(pool(NODES[:2]))

    with pytest.raises(Blocked, match="CFG-009"):
        paths.undisturbed(two, {NODES[:2]}, Family.IPV6)


def test_a_pod_without_the_family_blocks() -> None:
    agents = pool()
    agents.pods["worker"].addresses = DualAddresses.parse(["10.244.1.5"])
    (path,) = [p for p in paths.between_nodes(agents) if p.nodes == ("worker2", "worker")]

    with pytest.raises(Blocked, match="PODIP-002"):
        paths.probe(path, Family.IPV6, Protocol.TCP)


def test_a_node_without_the_family_blocks_by_its_own_requirement() -> None:
    agents = pool()
    agents.nodes["worker"].addresses = DualAddresses.parse(["10.243.0.1"])

    with pytest.raises(Blocked, match="CFG-005"):
        paths.address(agents.nodes["worker"], Family.IPV6)


def test_only_the_paths_own_target_may_answer() -> None:
    path = paths.between_nodes(pool())[0]

    tcp = paths.probe(path, Family.IPV6, Protocol.TCP)
    echo = paths.probe(path, Family.IPV6, Protocol.ICMP, size=100)

    assert tcp.expect == {"pod agent on worker"}
    assert (echo.target, echo.port, echo.size) == (ip_address("fd00:10:244:1::5"), None, 100)


PROBE = Probe(Protocol.UDP, ip_address("fd00:10:244:1::5"), 8080)


def flow(*received: int, errors: tuple[str, ...] = ()) -> OneWay:
    return OneWay(4, (0, 1, 2, 3), received, frozenset(), frozenset(), errors)


@pytest.mark.parametrize(
    ("seen", "outcome", "text"),
    [
        (flow(0, 1, 2, 3), Outcome.REACHED, None),
        (flow(0, 2, 3), Outcome.TIMEOUT, "3/4 datagrams arrived"),
        (flow(), Outcome.TIMEOUT, "0/4 datagrams arrived"),
        (flow(0, 1, 1, 2, 3), Outcome.TIMEOUT, "1 of them more than once"),
        (flow(errors=("ENETUNREACH",)), Outcome.TIMEOUT, "kernel said ENETUNREACH"),
    ],
)
def test_conn_002_one_lost_datagram_is_no_pass(
    seen: OneWay, outcome: Outcome, text: str | None
) -> None:
    observation = paths.as_observation(PROBE, seen)

    assert observation.outcome is outcome
    assert (text or "") in (observation.error or "")


def test_conn_002_loss_in_one_direction_is_told_as_such() -> None:
    """Fault F12: IPv6 from pods of worker to pods of worker2 is dropped at worker2."""
    agents = pool()
    seen = {}
    for path in paths.between_nodes(agents):
        pair = set(path.nodes) == {"worker", "worker2"}
        echo = Outcome.TIMEOUT if pair else Outcome.REACHED
        seen[path.cell(Family.IPV6, "udp")] = Observation(PROBE, echo)
        arrived = () if path.nodes == ("worker", "worker2") else (0, 1, 2, 3)
        one_way = paths.as_observation(PROBE, flow(*arrived))
        seen[path.cell(Family.IPV6, paths.ONE_WAY)] = one_way

    with pytest.raises(AssertionError) as failed:
        decide(Matrix.observed(seen.items()), Matrix.expecting(seen))

    message = str(failed.value)
    assert "ipv6 one-way udp pod on worker -> pod on worker2: timeout" in message
    assert "(0/4 datagrams arrived)" in message
    assert "one-way udp pod on worker2" not in message


def answered(source: str) -> Observation:
    return Observation(PROBE, Outcome.REACHED, peer_seen=ip_address(source))


def test_conn_005_a_masqueraded_source_is_found() -> None:
    """Fault F17: pod IPv6 leaves worker with the node's address."""
    path = next(p for p in paths.between_nodes(pool()) if p.nodes == ("worker", "worker2"))
    own = {path: frozenset({ip_address("fd00:10:244:1::5")})}

    (finding,) = paths.source_findings([(path, answered("fd00:10:243::1"))], own, "look here")

    assert finding == (
        "udp from the pod on worker arrived at the pod on worker2 with source fd00:10:243::1, "
        "expected fd00:10:244:1::5: look here"
    )
    assert paths.source_findings([(path, answered("fd00:10:244:1::5"))], own, "") == []


def test_what_did_not_arrive_has_no_source_and_blocks() -> None:
    path = paths.between_nodes(pool())[0]
    lost = Observation(PROBE, Outcome.TIMEOUT)
    unsent = Observation(PROBE, Outcome.INCONCLUSIVE, error="agent lost")

    assert paths.source_findings([(path, lost)], {path: frozenset()}, "") == []
    with pytest.raises(Blocked, match="CONN-002"):
        paths.require_reached([(path, lost), (path, unsent)], "CONN-002")
    with pytest.raises(Inconclusive, match="agent lost"):
        paths.require_reached([(path, unsent)], "CONN-002")
    paths.require_reached([(path, answered("::1"))], "CONN-002")


def ip_pool(cidr: str, *, nat: bool = False, disabled: bool = False) -> IPPool:
    spec = {"cidr": cidr, "natOutgoing": nat, "disabled": disabled}
    return IPPool.from_api({"metadata": {"name": cidr}, "spec": spec})


POD, HOST = ip_address("10.244.1.5"), ip_address("10.243.0.2")


@pytest.mark.parametrize(
    ("pools", "exempt", "hidden"),
    [
        ([ip_pool("10.244.0.0/16", nat=True)], False, True),
        ([ip_pool("10.244.0.0/16", nat=False)], False, False),
        ([ip_pool("10.244.0.0/16", nat=True), ip_pool("10.243.0.0/24")], False, False),
        (
            [ip_pool("10.244.0.0/16", nat=True), ip_pool("10.243.0.0/24", disabled=True)],
            False,
            False,
        ),
        ([ip_pool("10.244.0.0/16", nat=True)], True, False),
        ([ip_pool("10.245.0.0/16", nat=True)], False, False),
    ],
    ids=["nat", "no nat", "node in a pool", "disabled pool counts", "hosts exempt", "not its pool"],
)
def test_conn_012_when_a_pod_is_hidden_behind_its_node(
    pools: list[IPPool], exempt: bool, hidden: bool
) -> None:
    assert node_paths.masqueraded(POD, HOST, pools, hosts_exempt=exempt) is hidden


def test_conn_012_a_node_that_drops_pods_is_found() -> None:
    """Fault: FELIX_DEFAULTENDPOINTTOHOSTACTION=DROP hits the own node; others pass INPUT too."""
    seen = {}
    for path in paths.to_nodes(pool()):
        outcome = Outcome.TIMEOUT if path.within_node else Outcome.REACHED
        seen[path.cell(Family.IPV4, "tcp")] = Observation(PROBE, outcome)

    with pytest.raises(AssertionError, match="tcp pod on worker -> node worker: timeout"):
        decide(Matrix.observed(seen.items()), Matrix.expecting(seen))


def test_sources_of_several_flows_are_told_together() -> None:
    path = paths.between_nodes(pool())[0]
    wrong = [(path, answered("10.243.0.9"))] * 3

    assert told(paths.source_findings(wrong, {path: frozenset({POD})}, "x")).startswith(
        "3 findings"
    )
