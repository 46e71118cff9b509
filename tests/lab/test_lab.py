"""Probes, one-way flows, captures and matrices against paths whose truth is known.

Every fault is planted in the router's packet filter in one family; what is asserted is that
exactly that family, direction or protocol is blamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from helpers import packets
from helpers.matrix import Cell, Matrix, explain_matrix
from helpers.model import FAMILIES, Family, Protocol
from helpers.oneway import one_way
from helpers.packets import Capture, Nonce, capturing
from helpers.probes import Observation, Outcome, Probe, run, run_all, tcp_bulk
from helpers.waiting import eventually
from tests.lab import faults, nft
from tests.lab.faults import unchecked_sources
from tests.lab.topology import GATEWAY4, GATEWAY6, PORT, Lab, host_addresses

PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.ICMP)
MIB = 1 << 20
PATIENCE = 1.0  # seconds: the lab answers within milliseconds or never; a busy machine is slower


def probe(host: str, family: Family, protocol: Protocol, **more: object) -> Probe:
    port = None if protocol is Protocol.ICMP else PORT
    target = host_addresses(host).require(family)
    expect = frozenset() if protocol is Protocol.ICMP else frozenset({host})
    made = Probe(protocol, target, port, timeout=PATIENCE, expect=expect)
    return Probe(**{**{f: getattr(made, f) for f in made.__slots__}, **more})  # type: ignore[arg-type]


def observe(lab: Lab, families: Iterable[Family] = FAMILIES) -> Matrix:
    """Both directions, both families, all protocols."""
    other = {"p1": "p2", "p2": "p1"}
    plan = {
        host: [
            (Cell(host, other[host], family, protocol), probe(other[host], family, protocol))
            for family in families
            for protocol in PROTOCOLS
        ]
        for host in other
    }
    found = run_all({lab.agents[host]: [p for _, p in rows] for host, rows in plan.items()})
    pairs: list[tuple[Cell, Observation]] = []
    for host, rows in plan.items():
        cells = [cell for cell, _ in rows]
        pairs += zip(cells, found[lab.agents[host]], strict=True)
    return Matrix.observed(pairs)


def expected() -> Matrix:
    return Matrix.expecting(
        Cell(source, target, family, protocol)
        for source, target in (("p1", "p2"), ("p2", "p1"))
        for family in FAMILIES
        for protocol in PROTOCOLS
    )


def explained(lab: Lab) -> str:
    observed = observe(lab)
    assert observed != expected()
    return "\n".join(explain_matrix(observed, expected()))


def test_without_a_fault_everything_is_reached(lab: Lab) -> None:
    assert observe(lab) == expected()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_is_dropped_is_named(lab: Lab, family: Family) -> None:
    with faults.fault(lab.namespace("n2"), family, nft.drop()):
        text = explained(lab)
    assert "differs in 6 of 12 cells" in text
    assert f"in common: all {family}" in text
    assert "over the other family: fine (6 of 6)" in text
    assert observe(lab) == expected()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_protocol_that_is_refused_is_named(lab: Lab, family: Family) -> None:
    rule = [*nft.speaking(family, Protocol.TCP, PORT), *nft.reset()]
    with faults.fault(lab.namespace("n2"), family, rule):
        text = explained(lab)
    assert "differs in 2 of 12 cells" in text
    assert f"in common: only {family}, only tcp" in text
    assert "refused, expected reached" in text


@pytest.mark.parametrize("family", FAMILIES)
def test_somebody_else_answering_is_a_wrong_peer(lab: Lab, family: Family) -> None:
    rule = [
        *nft.toward(host_addresses("p2").require(family)),
        *nft.dnat(host_addresses("p3").require(family)),
    ]
    with faults.fault(lab.namespace("n1"), family, rule, chain=faults.DNAT):
        seen = run(lab.p1, [probe("p2", family, p) for p in (Protocol.TCP, Protocol.UDP)])
    assert [o.outcome for o in seen] == [Outcome.WRONG_PEER] * 2
    assert {o.server for o in seen} == {"p3"}
    assert "expected p2" in str(seen[0].error)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_server_sees_the_senders_address(lab: Lab, family: Family) -> None:
    seen = run(lab.p1, [probe("p2", family, p) for p in (Protocol.TCP, Protocol.UDP)])
    assert {o.peer_seen for o in seen} == {host_addresses("p1").require(family)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_port_and_an_absent_host_are_told_apart(lab: Lab, family: Family) -> None:
    absent = host_addresses("p2").require(family) + 20  # in n2's block, and nobody's
    closed, nobody = run(
        lab.p1,
        [
            probe("p2", family, Protocol.TCP, port=PORT + 1),
            Probe(Protocol.TCP, absent, PORT, timeout=0.2),
        ],
    )
    assert closed.outcome is Outcome.REFUSED
    assert nobody.outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_has_a_direction_and_sequence_numbers(lab: Lab, family: Family) -> None:
    b = host_addresses("p2").require(family)
    rule = [*nft.toward(b), *nft.every(100), *nft.drop()]
    with faults.fault(lab.namespace("n2"), family, rule):
        there = one_way(lab.p1, lab.p2, family, count=300, interval=0, patience=0.3)
        back = one_way(lab.p2, lab.p1, family, count=300, interval=0, patience=0.3)
    assert len(there.lost) == 3  # exactly 1 %, spaced evenly
    assert {n % 100 for n in there.lost} == {there.lost[0] % 100}
    assert back.lost == ()
    assert there.sources == {host_addresses("p1").require(family)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_that_cannot_leave_is_lost_not_empty(lab: Lab, family: Family) -> None:
    """An empty flow has no losses to count: datagrams that were refused must count as lost."""
    with no_route(lab, family):
        flow = one_way(lab.p1, lab.p2, family, count=5, patience=0.1)
    assert flow.sent == ()
    assert flow.lost == (0, 1, 2, 3, 4)
    assert "ENETUNREACH" in flow.send_errors[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_route_is_unreachable_at_once(lab: Lab, family: Family) -> None:
    with no_route(lab, family):
        seen = run(lab.p1, [probe("p2", family, protocol) for protocol in PROTOCOLS])
    assert [o.outcome for o in seen] == [Outcome.UNREACHABLE] * 3
    assert all("ENETUNREACH" in str(o.error) for o in seen)


@contextmanager
def no_route(lab: Lab, family: Family) -> Iterator[None]:
    """Pod p1 has no default route in one family."""
    gateway = GATEWAY4 if family is Family.IPV4 else GATEWAY6
    route = ("default", "via", gateway, "dev", "eth0")
    lab.ip("p1", f"-{family.version}", "route", "del", *route)
    try:
        yield
    finally:
        lab.ip("p1", f"-{family.version}", "route", "add", *route)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hop_limit_falls_by_one_at_each_node(lab: Lab, family: Family) -> None:
    flow = one_way(lab.p1, lab.p3, family, count=3, hop_limit=40)
    assert flow.hops == {39}
    flow = one_way(lab.p1, lab.p2, family, count=3, hop_limit=40)
    assert flow.hops == {38}
    with faults.fault(lab.namespace("n2"), family, nft.set_hop_limit(family, 64)):
        flow = one_way(lab.p1, lab.p2, family, count=3, hop_limit=40)
    assert flow.hops == {64}


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_packets_leave_and_are_dropped_at_the_first_node(lab: Lab, family: Family) -> None:
    legal, forged, seen = forged_and_legal(lab, family)
    (left,) = seen["p1"].require(legal, "the legal packet", "outgoing")
    (arrived,) = seen["p2"].require(legal, "the legal packet", "host")
    assert left.inner.hop_limit == 30
    assert arrived.inner.hop_limit == 28
    assert arrived.encapsulation is None
    assert (arrived.outer.source, arrived.outer.target) == (
        host_addresses("p1").require(family),
        host_addresses("p2").require(family),
    )
    assert seen["p1"].find(forged, "outgoing")
    assert seen["p2"].find(forged) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_packets_arrive_where_nothing_checks_sources(lab: Lab, family: Family) -> None:
    with unchecked_sources(lab, family):
        _, forged, seen = forged_and_legal(lab, family)
    (spoofed,) = seen["p2"].find(forged, "host")
    assert spoofed.inner.source == host_addresses("p1").require(family) + 7


def forged_and_legal(lab: Lab, family: Family) -> tuple[Nonce, Nonce, dict[str, Capture]]:
    """Send both from p1 to p2, with captures in both pods."""
    source, target = (host_addresses(host).require(family) for host in ("p1", "p2"))
    legal, forged = both = Nonce.fresh(2)
    shots = [
        packets.udp(source, target, nonce=legal, hop_limit=30),
        packets.echo_request(source + 7, target, nonce=forged, hop_limit=30),
    ]
    with (
        capturing(lab.p1, ["eth0"], both, expect=2) as leaving,
        capturing(lab.p2, ["eth0"], both, settle=0.3) as arriving,
    ):
        for shot in packets.send(lab.p1, shots[::-1]):
            shot.require_sent()
    for capture in (leaving, arriving):
        capture.require_complete()
    return legal, forged, {"p1": leaving, "p2": arriving}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_drop_on_the_way_is_seen_by_the_capture(lab: Lab, family: Family) -> None:
    a, b = host_addresses("p1").require(family), host_addresses("p2").require(family)
    (nonce,) = Nonce.fresh()
    with (
        faults.fault(lab.namespace("n2"), family, nft.drop()),
        capturing(lab.p2, ["eth0"], [nonce], settle=0.1) as arriving,
        capturing(lab.p1, ["eth0"], [nonce], expect=1) as leaving,
    ):
        packets.send(lab.p1, [packets.udp(a, b, nonce=nonce)])[0].require_sent()
    leaving.require(nonce, "the packet on its way out", "outgoing")
    assert arriving.find(nonce) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bulk_transfer_does_not_fill_a_capture(lab: Lab, family: Family) -> None:
    a, b = host_addresses("p1").require(family), host_addresses("p2").require(family)
    (nonce,) = Nonce.fresh()
    with (
        capturing(lab.p2, ["eth0"], [nonce], expect=1) as filtered,
        capturing(lab.p2, ["eth0"], [nonce], longest=None) as unfiltered,
    ):
        tcp_bulk(lab.p1, b, PORT, 16 * MIB)
        packets.send(lab.p1, [packets.udp(a, b, nonce=nonce)])[0].require_sent()
    filtered.require_complete()
    filtered.require(nonce, "the small packet", "host")
    assert unfiltered.seen + unfiltered.drops > filtered.seen + 100, "segments are left out"


@pytest.mark.parametrize("family", FAMILIES)
def test_bulk_is_intact_both_ways(lab: Lab, family: Family) -> None:
    target = host_addresses("p2").require(family)
    for down in (False, True):
        moved = tcp_bulk(lab.p1, target, PORT, 4 * MIB, down=down)
        assert moved.outcome is Outcome.REACHED, moved
        assert moved.moved == 4 * MIB


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [0, 1, 2000, 8000, 60_000])
def test_datagrams_of_all_sizes_come_back(lab: Lab, family: Family, size: int) -> None:
    (seen,) = run(lab.p1, [probe("p2", family, Protocol.UDP, size=size)])
    assert seen.outcome is Outcome.REACHED, seen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_too_big_for_the_path_is_reported_not_lost(lab: Lab, family: Family) -> None:
    fits = 1500 - 8 - (20 if family is Family.IPV4 else 40)
    good, bad = run(
        lab.p1,
        [
            probe("p2", family, Protocol.ICMP, size=fits, dont_fragment=True),
            probe("p2", family, Protocol.ICMP, size=fits + 1, dont_fragment=True),
        ],
    )
    assert good.outcome is Outcome.REACHED, good
    assert bad.outcome is Outcome.UNREACHABLE
    assert "EMSGSIZE" in str(bad.error)


@pytest.mark.parametrize("family", FAMILIES)
def test_200_parallel_flows_all_complete(lab: Lab, family: Family) -> None:
    for protocol in PROTOCOLS:
        made = [probe("p2", family, protocol, timeout=5.0) for _ in range(200)]
        outcomes = {o.outcome for o in run(lab.p1, made)}
        assert outcomes == {Outcome.REACHED}, protocol


@pytest.mark.parametrize("family", FAMILIES)
def test_a_listener_of_one_family_is_deaf_to_the_other(lab: Lab, family: Family) -> None:
    listener = lab.p2.call_one("listen", version=family.version)
    same = probe("p2", family, Protocol.TCP, port=listener["port"])
    other = probe("p2", family.other, Protocol.TCP, port=listener["port"])
    seen = run(lab.p1, [same, other])
    lab.p2.call("close", handle=listener["handle"])
    assert [o.outcome for o in seen] == [Outcome.REACHED, Outcome.REFUSED]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_held_connection_knows_its_longest_gap(lab: Lab, family: Family) -> None:
    target = str(host_addresses("p2").require(family))
    hold = lab.p1.call_one("connect_hold", target=target, port=PORT, interval=0.02)
    with faults.fault(lab.namespace("n2"), family, nft.drop()):
        one_way(lab.p1, lab.p2, family, count=2, patience=0.4)
        assert lab.p1.call_one("report", handle=hold["handle"])["longest_gap"] > 0.3
    alive = eventually(
        lambda: lab.p1.call_one("report", handle=hold["handle"])["echoed"],
        lambda echoed: echoed > 20,
        within=10,
        every=0.1,
    )
    report = lab.p1.call_one("close", handle=hold["handle"])
    assert report["alive"]
    assert report["echoed"] >= alive
    assert 0.3 < report["longest_gap"] < 10


@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_that_cannot_be_held_says_why(lab: Lab, family: Family) -> None:
    target = str(host_addresses("p2").require(family))
    hold = lab.p1.call_one("connect_hold", target=target, port=PORT + 1)
    assert (hold["handle"], hold["outcome"]) == (None, Outcome.REFUSED)


def test_no_agent_was_lost(lab: Lab) -> None:
    assert lab.losses == []
