"""The packet matrix where every packet's fate is known, and with faults that change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace

import pytest

from helpers.model import FAMILIES, Family
from helpers.packet_matrix import judge
from helpers.packet_matrix.expected import shapes_of
from helpers.packet_matrix.flight import Flown, fly_until_told, shots
from helpers.packet_matrix.shapes import SHAPES, Carrier, variants
from tests.lab import faults, nft
from tests.lab.routes import lab_ways
from tests.lab.strange_hosts import (
    Reassembler,
    executing_routing_headers,
    strange,
    unchecked_server,
)
from tests.lab.topology import Lab

IPV6 = Family.IPV6
RAW = nft.Chain("prerouting", -310)
HBH, FRAGMENT, DST = 0, 44, 60
SETTLE = 0.3  # seconds: the lab is this machine alone


def flown(
    lab: Lab,
    shapes: Sequence[str],
    family: Family = IPV6,
    pairs: Sequence[tuple[str, str]] = (("p1", "p3"), ("p1", "p2"), ("p2", "p1")),
) -> list[Flown]:
    wanted = shots(lab_ways(lab, family, pairs), variants(family, shapes))
    return fly_until_told(wanted, judge.lacks_error, settle=SETTLE)


def red(seen: Sequence[Flown]) -> set[str]:
    """Shapes of which some packet was not as expected."""
    return {one.variant.shape for one in judge.failing(seen)}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_shape_is_as_expected(lab: Lab, family: Family) -> None:
    seen = flown(lab, list(SHAPES[family]), family)
    assert judge.findings(seen) == []
    judge.require_plain(seen)


def test_a_lost_packet_says_where(lab: Lab) -> None:
    with faults.fault(lab.namespace("n2"), IPV6, [*nft.extension(DST), *nft.drop()]):
        seen = flown(lab, ["plain", "dst/padn"], pairs=[("p1", "p2")])
    (told, *_) = judge.findings(seen)
    assert "dropped (last seen on fabric of node n2), expected delivered (RFC 8200 4.6)" in told
    judge.require_plain(seen)


@contextmanager
def f21(lab: Lab) -> Iterator[None]:
    rule = [*nft.extension(FRAGMENT), *nft.drop()]
    with faults.fault(lab.namespace("n1"), IPV6, rule, chain=faults.EARLY):
        yield


@contextmanager
def f22(lab: Lab) -> Iterator[None]:
    rules = [[*nft.coming_from("cali*"), *nft.extension(h), *nft.drop()] for h in (HBH, DST)]
    with faults.fault(lab.namespace("n1"), IPV6, *rules, chain=RAW):
        yield


@contextmanager
def no_experiments(lab: Lab) -> Iterator[None]:
    with faults.fault(lab.namespace("n1"), IPV6, [*nft.protocol(253), *nft.drop()]):
        yield


@contextmanager
def no_long_chains(lab: Lab) -> Iterator[None]:
    rule = [*nft.extension(DST), *nft.longer_than(120), *nft.drop()]
    with faults.fault(lab.namespace("n1"), IPV6, rule):
        yield


@contextmanager
def segment_routing_on(lab: Lab) -> Iterator[None]:
    names = [f"ipv6/conf/{i}/seg6_enabled" for i in ("all", "eth0")]
    names.append("ipv6/conf/all/forwarding")
    for name in names:
        lab.sysctl("p2", name, "1")
    try:
        yield
    finally:
        for name in reversed(names):
            lab.sysctl("p2", name, "0")


@contextmanager
def routing_headers_executed(lab: Lab) -> Iterator[None]:
    with strange(lab, "p2", executing_routing_headers):
        yield


@contextmanager
def all_fragments_taken(lab: Lab) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(faults.unchecked_sources(lab, IPV6))
        stack.enter_context(strange(lab, "p3", Reassembler("p3")))
        yield


FAULTS = [
    (f22, "PKT-001", {"hbh/padn", "hbh/router-alert", "hbh/size-1024", "hbh+dst"}, "dropped"),
    (f22, "PKT-002", {"dst/padn", "dst/discard", "dst/size-1024", "all-in-order"}, "dropped"),
    (routing_headers_executed, "PKT-003", {"routing/type-0-left"}, "sent on to a third host"),
    (segment_routing_on, "PKT-004", {"routing/segments-left"}, "sent on to a third host"),
    (f21, "PKT-005", {"fragment/in-order", "fragment/reversed", "fragment/many"}, "dropped"),
    (all_fragments_taken, "PKT-006", {"fragment/overlap-by-8"}, "delivered"),
    (f21, "PKT-007", {"fragment/atomic"}, "dropped"),
    (all_fragments_taken, "PKT-008", {"fragment/chain-cut-early"}, "delivered"),
    (no_experiments, "PKT-009", {"other/253"}, "dropped"),
    (no_long_chains, "PKT-010", {"chain/16-dst", "chain/40-dst"}, "dropped"),
]


@pytest.mark.parametrize(
    ("fault", "requirement", "at_least", "told"), FAULTS, ids=[row[1] for row in FAULTS]
)
def test_a_fault_turns_its_requirement_red(
    lab: Lab,
    fault: Callable[[Lab], AbstractContextManager[None]],
    requirement: str,
    at_least: set[str],
    told: str,
) -> None:
    shapes = shapes_of(requirement, IPV6)
    with fault(lab):
        seen = flown(lab, shapes)
        judge.require_plain(seen)
    assert red(seen) >= at_least
    assert any(told in finding for finding in judge.findings(seen))
    assert judge.findings(flown(lab, shapes)) == []


def test_a_receiver_without_checksums_is_noticed(lab: Lab) -> None:
    wanted = variants(IPV6, shapes_of("PKT-014", IPV6), [Carrier.UDP])
    port = 8099
    with unchecked_server(lab, "p3", port):
        (way,) = lab_ways(lab, IPV6, [("p1", "p3")])
        way = replace(way, ends=replace(way.ends, port=port))
        seen = fly_until_told(shots([way], wanted), judge.lacks_error, settle=SETTLE)
        judge.require_plain(seen)
    (told,) = judge.findings(seen)
    assert "UDP without checksum (udp), same node" in told
    assert "delivered, expected dropped or silent (RFC 8200 8.1)" in told


@pytest.mark.parametrize("family", FAMILIES)
def test_checksums_are_judged(lab: Lab, family: Family) -> None:
    assert judge.findings(flown(lab, shapes_of("PKT-014", family), family)) == []


def test_a_deviation_that_is_gone_is_red(lab: Lab) -> None:
    """Without Calico's rule against INVALID, no next header does what the RFC wants."""
    with faults.unchecked_sources(lab, IPV6):
        seen = flown(lab, ["plain", "other/no-next-header"], pairs=[("p1", "p3")])
    told = judge.findings(seen)
    assert len(told) == 2
    assert "that deviation is gone here" in told[0]


def test_fragments_of_ipv4_are_judged_as_those_of_ipv6(lab: Lab) -> None:
    rule = [*nft.equals((nft.NETWORK, 6, 1), b"\x20"), *nft.drop()]
    shapes = shapes_of("PKT-005", Family.IPV4)
    with faults.fault(lab.namespace("n1"), Family.IPV4, rule, chain=faults.EARLY):
        seen = flown(lab, shapes, Family.IPV4)
        judge.require_plain(seen)
    assert red(seen) == set(shapes) - {"plain"}


def test_options_of_ipv4_that_are_dropped_are_named(lab: Lab) -> None:
    rule = [*nft.equals((nft.NETWORK, 20, 1), bytes([7])), *nft.drop()]  # Record Route
    with faults.fault(lab.namespace("n1"), Family.IPV4, rule):
        seen = flown(lab, shapes_of("PKT-021", Family.IPV4), Family.IPV4)
    assert red(seen) == {"option/record-route"}


def test_plain_packets_that_are_lost_block_the_verdict(lab: Lab) -> None:
    with (
        faults.fault(lab.namespace("n2"), IPV6, nft.drop()),
        pytest.raises(Exception, match=r"blocked by CONN-002 .*a plain packet is dropped"),
    ):
        judge.require_plain(flown(lab, ["plain"], pairs=[("p1", "p2")]))
