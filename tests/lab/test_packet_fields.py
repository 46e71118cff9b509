"""Hop limits, markings, TCP options and path MTUs where they are known, and with faults."""

from __future__ import annotations

import pytest

from helpers import path_mtu
from helpers.model import FAMILIES, Family
from helpers.packet_matrix import expiry, markings, tcp_options, ways
from helpers.packet_matrix.ways import FIRST, LAST
from tests.lab import faults, nft
from tests.lab.routes import lab_ways
from tests.lab.topology import Lab, host_addresses

SETTLE = 0.3
MTU = 1500
TIME_EXCEEDED = {Family.IPV4: 11, Family.IPV6: 3}
TOO_BIG = {Family.IPV4: 3, Family.IPV6: 2}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture
def taken(lab: Lab, family: Family) -> list[ways.Way]:
    return lab_ways(lab, family)


def test_each_node_tells_that_a_hop_limit_ended(taken: list[ways.Way], family: Family) -> None:
    seen = expiry.observe(taken, settle=SETTLE)
    assert [one.by for one in seen] == [FIRST, None, FIRST, LAST, None]
    assert expiry.findings(seen, family) == []
    expiry.require_arrived(seen, family)


def test_a_node_that_tells_nothing_is_named(
    lab: Lab, taken: list[ways.Way], family: Family
) -> None:
    rule = [*nft.icmp(family, TIME_EXCEEDED[family]), *nft.drop()]
    with faults.fault(lab.namespace("n2"), family, rule, chain=faults.OUTPUT):
        seen = expiry.observe(taken, settle=SETTLE)
    (told,) = expiry.findings(seen, family)
    assert "came back: none; expected Time Exceeded" in told
    assert told.endswith("drop ICMP errors")
    assert "address of the last node" in told


def test_a_node_that_sets_the_hop_limit_is_noticed(
    lab: Lab, taken: list[ways.Way], family: Family
) -> None:
    early = nft.Chain("prerouting", -310)
    with faults.fault(lab.namespace("n2"), family, nft.set_hop_limit(family, 9), chain=early):
        seen = expiry.observe(taken, settle=SETTLE)
    assert any("it arrived, expected Time Exceeded from the last node" in told
               for told in expiry.findings(seen, family))  # fmt: skip


def test_markings_arrive(taken: list[ways.Way], family: Family) -> None:
    seen = markings.observe(taken, family, settle=SETTLE)
    assert len(seen) == 2 * (67 if family is Family.IPV4 else 70)
    assert markings.findings(seen) == []
    markings.require_arrived(seen, family)


def test_markings_that_are_wiped_are_named(lab: Lab, taken: list[ways.Way], family: Family) -> None:
    with faults.fault(lab.namespace("n2"), family, nft.wipe_markings(family)):
        seen = markings.observe(taken, family, settle=SETTLE)
    told = markings.findings(seen)
    fields = {Family.IPV4: {"DSCP", "ECN"}, Family.IPV6: {"DSCP", "ECN", "flow label"}}
    assert {t.split(": ")[1].split(" is")[0] for t in told} == fields[family]
    assert all("pod p1 -> pod p2" in t for t in told)


def test_options_of_a_syn_arrive(taken: list[ways.Way], family: Family) -> None:
    seen = tcp_options.observe(taken, dict.fromkeys(taken, MTU), settle=SETTLE)
    assert tcp_options.findings(seen) == []
    own = [tcp_options.observe_own(way, MTU) for way in taken]
    assert tcp_options.own_findings(own, family) == []
    assert tcp_options.mss(own[0].left) == MTU - tcp_options.HEADERS[family]


def test_a_clamped_syn_is_noticed(lab: Lab, taken: list[ways.Way], family: Family) -> None:
    with faults.fault(lab.namespace("n2"), family, nft.set_mss(900)):
        seen = tcp_options.observe(taken, dict.fromkeys(taken, MTU), settle=SETTLE)
        own = [tcp_options.observe_own(way, MTU) for way in taken]
    told = tcp_options.findings(seen)
    assert len(told) == 2
    assert f"MSS {MTU - tcp_options.HEADERS[family]} arrived as 900" in told[0]
    (told_own,) = tcp_options.own_findings(own, family)
    assert "arrived with" in told_own


def narrow_sizes(lab: Lab, taken: list[ways.Way], family: Family, mtu: int) -> list[str]:
    """Findings of a sweep over the way from p1 to p2 with a smaller link behind n1."""
    (way,) = (w for w in taken if w.kind == ways.OTHER_NODE)
    target = host_addresses("p2").require(family)
    with path_mtu.narrowed(lab.agents["n1"], target, mtu):
        wanted = [(way, size) for size in path_mtu.sizes(mtu, MTU)]
        seen = path_mtu.observe(wanted, {way: mtu}, settle=SETTLE)
    return path_mtu.findings(seen, {way: mtu}, family)


@pytest.mark.parametrize("mtu", [1280, 1400, 1499])
def test_packets_too_big_are_answered(
    lab: Lab, taken: list[ways.Way], family: Family, mtu: int
) -> None:
    assert narrow_sizes(lab, taken, family, mtu) == []


def test_sizes_pass_without_a_smaller_link(taken: list[ways.Way], family: Family) -> None:
    wanted = [(way, size) for way in taken for size in path_mtu.sizes(1400, MTU)]
    mtus = dict.fromkeys(taken, MTU)
    assert path_mtu.findings(path_mtu.observe(wanted, mtus, settle=SETTLE), mtus, family) == []


def test_a_black_hole_is_named(lab: Lab, taken: list[ways.Way], family: Family) -> None:
    rule = [*nft.icmp(family, TOO_BIG[family]), *nft.drop()]
    with faults.fault(lab.namespace("n1"), family, rule, chain=faults.OUTPUT):
        told = narrow_sizes(lab, taken, family, 1400)
    assert len(told) == 4
    assert "came back: nothing" in told[0]
    assert "path MTU discovery is blind here" in told[0]


def test_a_wrong_mtu_is_named(lab: Lab, taken: list[ways.Way], family: Family) -> None:
    (way,) = (w for w in taken if w.kind == ways.OTHER_NODE)
    target = host_addresses("p2").require(family)
    with path_mtu.narrowed(lab.agents["n1"], target, 1300):
        seen = path_mtu.observe([(way, 1450)], {way: 1400}, settle=SETTLE)
    (told,) = path_mtu.findings(seen, {way: 1400}, family)
    assert "must answer" in told
    assert "MTU 1300 from first node" in told
