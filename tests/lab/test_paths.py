"""The suite's own judgements of pod paths, in the lab: loss, direction, order, MTU, and sources.

Faults are planted in one family of one node; what is asserted is that exactly it is blamed, and
that the other family and the other direction stay clean.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from helpers import hop_limits, mtu, paths
from helpers.matrix import Cell, Differs, Matrix, decide
from helpers.model import FAMILIES, Family, Protocol
from helpers.observed import cells
from helpers.oneway import one_way
from helpers.paths import Path
from helpers.probes import Observation, Outcome, Probe, run
from reports.model import Cell as ShownCell
from reports.model import ClusterInfo
from tests.diagnosis.conftest import cluster, diagnosed, result
from tests.lab import faults, nft
from tests.lab.topology import FABRIC, PODS, Lab, host_addresses

MTU = 1500
SHUFFLED = 4  # one in so many datagrams is overtaken


def path(lab: Lab, source: str, target: str) -> Path:
    names = (f"pod on {PODS[source].node.name}", f"pod on {PODS[target].node.name}")
    if PODS[source].node is PODS[target].node:
        names = (names[0], f"second {names[1]}")
    nodes = (PODS[source].node.name, PODS[target].node.name)
    return Path(lab.agents[source], lab.agents[target], names, nodes)


def across(lab: Lab) -> list[Path]:
    return [path(lab, "p1", "p2"), path(lab, "p2", "p1")]


def toward_p2(family: Family, *more: nft.Expression) -> Sequence[nft.Expression]:
    return [*nft.toward(host_addresses("p2").require(family)), *more]


# -- loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_one_percent_in_one_direction_of_one_family(lab: Lab, family: Family) -> None:
    rule = toward_p2(family, *nft.every(100), *nft.drop())
    with faults.fault(lab.namespace("n1"), family, rule):
        there = one_way(lab.p1, lab.p2, family, 400, interval=0, patience=1.0)
        back = one_way(lab.p2, lab.p1, family, 400, interval=0, patience=1.0)
        other = one_way(lab.p1, lab.p2, family.other, 400, interval=0, patience=1.0)
    assert len(there.lost) == 4
    assert str(there) == "396/400 datagrams arrived"
    assert back.lost == other.lost == ()
    assert paths.as_observation(probe(lab, family), there).outcome is Outcome.TIMEOUT
    assert paths.as_observation(probe(lab, family), back).reached


def probe(lab: Lab, family: Family) -> Probe:
    return paths.probe(path(lab, "p1", "p2"), family, Protocol.UDP)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_direction_that_is_lost_is_named_by_one_way_datagrams(lab: Lab, family: Family) -> None:
    """An echo is lost with its answer, so that only one-way datagrams tell the direction."""
    with faults.fault(lab.namespace("n2"), family, toward_p2(family, *nft.drop())):
        seen = observe(lab, family)
    assert {cell for cell, o in seen.items() if not o.reached} == {
        cell for cell in seen if cell.detail != paths.ONE_WAY or cell.source == "pod on n1"
    }
    with pytest.raises(Differs) as lost:
        decide(Matrix.observed(seen.items()), Matrix.expecting(seen))
    (only,) = diagnosed(result("CONN-002", family.value, cells=shown(lost.value)))
    assert only.rule == "pod-path-loses"
    assert only.cause.startswith(
        f"{family.kubernetes} packets from pods on n1 to pods on n2 are lost (one-way UDP: 0/20 "
        "datagrams arrived; the opposite direction works)"
    )
    assert "one direction: n1 -> n2 fails, n2 -> n1 works" in only.asymmetry
    assert all(o.reached for o in observe(lab, family).values())


def observe(lab: Lab, family: Family) -> dict[Cell, Observation]:
    """As CONN-002 does."""
    ways = across(lab)
    return paths.observe(ways, family, paths.FLOWS) | paths.observe_one_way(ways, family)


def shown(error: Differs) -> list[ShownCell]:
    return [ShownCell(**each) for each in cells(error.observed, error.expected)]


# -- order ----------------------------------------------------------------------------------------


@contextmanager
def overtaking(lab: Lab, family: Family) -> Iterator[None]:
    """On n1 each ``SHUFFLED``-th packet to p2 waits in a slow class, so that others overtake it."""
    namespace = lab.namespace("n1")
    rule = toward_p2(family, *nft.every(SHUFFLED), *nft.set_priority(1, 2))
    root = ("dev", FABRIC, "root")
    try:
        faults.tc(namespace, "qdisc", "add", *root, "handle", "1:", "htb", "default", "1")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"order is changed with HTB, which this kernel lacks: {error.stderr.decode()}")
    try:
        for minor, rate in (("1", "1gbit"), ("2", "64kbit")):
            faults.tc(
                namespace, "class", "add", "dev", FABRIC, "parent", "1:", "classid", f"1:{minor}",
                "htb", "rate", rate, "burst", "200" if minor == "2" else "100k",
            )  # fmt: skip
        with faults.fault(namespace, family, rule, chain=faults.POSTROUTING):
            yield
    finally:
        faults.tc(namespace, "qdisc", "del", *root)


@pytest.mark.parametrize("family", FAMILIES)
def test_overtaken_datagrams_are_neither_lost_nor_doubled(lab: Lab, family: Family) -> None:
    with overtaking(lab, family):
        flow = one_way(lab.p1, lab.p2, family, 40, interval=0, patience=5.0)
    assert flow.received != tuple(sorted(flow.received)), "the lab did not change the order"
    assert sorted(flow.received) == list(range(40))
    assert flow.lost == flow.duplicated == ()
    assert paths.as_observation(probe(lab, family), flow).reached


# -- MTU ------------------------------------------------------------------------------------------


@contextmanager
def short_fabric(lab: Lab, size: int) -> Iterator[None]:
    """n1's link to the fabric carries less; afterwards nobody remembers it."""
    lab.ip("n1", "link", "set", FABRIC, "mtu", str(size))
    try:
        yield
    finally:
        lab.ip("n1", "link", "set", FABRIC, "mtu", str(MTU))
        for host in ("p1", "p2", "n1"):
            for version in ("-4", "-6"):
                lab.ip(host, version, "route", "flush", "cache")


def full_and_beyond(lab: Lab, family: Family) -> list[str]:
    """CONN-008's findings about the path from p1 to p2."""
    way = path(lab, "p1", "p2")
    options = (
        {"dont_fragment": True, "size": mtu.echo_size(MTU + more, family)} for more in (0, 1)
    )
    full, beyond = paths.run(
        [(way, paths.probe(way, family, Protocol.ICMP, timeout=1.0, **o)) for o in options]
    )
    return mtu.passing_findings("p1 -> p2", MTU, full, beyond)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_link_one_byte_short_is_noticed(lab: Lab, family: Family) -> None:
    assert full_and_beyond(lab, family) == []
    with short_fabric(lab, MTU - 1):
        (finding,) = full_and_beyond(lab, family)
    assert f"packet of {MTU} bytes, the pod's own MTU, does not pass" in finding
    assert "EMSGSIZE" in finding
    assert full_and_beyond(lab, family) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_short_link_that_nobody_tells_of_is_a_timeout(lab: Lab, family: Family) -> None:
    """The black hole of PMTU discovery: n1 drops its own ICMP errors."""
    kind = 3 if family is Family.IPV4 else 2  # unreachable (fragmentation needed), Packet Too Big
    rule = [*nft.icmp(family, kind), *nft.drop()]
    with (
        short_fabric(lab, MTU - 1),
        faults.fault(lab.namespace("n1"), family, rule, chain=faults.OUTPUT),
    ):
        (finding,) = full_and_beyond(lab, family)
    assert "does not pass (timeout" in finding
    assert full_and_beyond(lab, family) == []


# -- who answers, who asked -----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_another_pod_that_answers_is_a_wrong_peer(lab: Lab, family: Family) -> None:
    rule = toward_p2(family, *nft.dnat(host_addresses("p3").require(family)))
    with faults.fault(lab.namespace("n1"), family, rule, chain=faults.DNAT):
        seen = paths.observe([path(lab, "p1", "p2")], family, paths.FLOWS)
        other = paths.observe([path(lab, "p1", "p2")], family.other, paths.FLOWS)
    assert {o.outcome for o in seen.values()} == {Outcome.WRONG_PEER}
    assert all(o.reached for o in other.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_that_masquerades_its_pods_is_named(lab: Lab, family: Family) -> None:
    way = path(lab, "p1", "p2")
    wanted = [(way, paths.probe(way, family, protocol)) for protocol in paths.FLOWS]
    own = {way: frozenset({host_addresses("p1").require(family)})}
    rule = [*nft.leaving_by(FABRIC), *nft.masquerade()]
    with faults.fault(lab.namespace("n1"), family, rule, chain=faults.SNAT):
        seen = run(lab.p1, [each for _, each in wanted])
        found = paths.source_findings([(way, o) for o in seen], own, "look for masquerade rules")
    assert len(found) == 2
    (only,) = diagnosed(
        result("CONN-005", family.value, "fail", *found),
        result("PODIP-004", family.value, "pass"),
        info=lab_nodes(),
    )
    assert only.rule == "pods-are-masqueraded"
    assert only.cause.endswith(f"of node n1: something masquerades pod {family.kubernetes}")
    seen = run(lab.p1, [each for _, each in wanted])
    assert paths.source_findings([(way, o) for o in seen], own, "") == []


def lab_nodes() -> ClusterInfo:
    nodes = [
        {
            "name": name,
            "proxyMode": "none",
            "kernel": "",
            "addresses": [str(a) for a in host_addresses(name).all],
        }
        for name in ("n1", "n2")
    ]
    return cluster(nodes=nodes)


@pytest.mark.parametrize("family", FAMILIES)
def test_hop_limits_fall_by_the_nodes_passed(lab: Lab, family: Family) -> None:
    ways = [path(lab, "p1", "p3"), *across(lab)]
    assert hop_limits.hop_findings(hop_limits.observe(ways, family)) == []
    with faults.fault(lab.namespace("n2"), family, nft.set_hop_limit(family, 64)):
        arrivals = hop_limits.observe(ways, family)
    found = hop_limits.hop_findings(arrivals)
    assert len(found) == 2, "the path within n1 does not cross n2"
    assert "a node rewrites it" in found[0]
