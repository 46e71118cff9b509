"""False routers, neighbours and errors, and scopes, where the truth is known, and with faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

import pytest

from helpers import false_errors, scopes
from helpers.agents.client import Agent
from helpers.false_neighbours import DOCUMENTATION, Attacker, Tables, advertisements, attack, claims
from helpers.model import FAMILIES, Family
from helpers.packet_matrix.ways import Place
from helpers.pod_netns import POD_INTERFACE, link
from helpers.waiting import eventually
from tests.lab import faults, nft
from tests.lab.routes import lab_ways
from tests.lab.strange_hosts import strange_relay
from tests.lab.topology import PODS, Lab, host_addresses

SETTLE = 0.3
IPV6 = Family.IPV6


def address(host: str) -> IPv6Address:
    return IPv6Address(host_addresses(host).require(IPV6))


@pytest.fixture
def attacker(lab: Lab) -> Attacker:
    return Attacker.of("pod p1", lab.p1, lab.agents["n1"], address("p1"))


def witnesses(lab: Lab) -> list[Agent]:
    return [lab.agents["n1"], lab.p3]


def test_router_advertisements_gain_nothing(lab: Lab, attacker: Attacker) -> None:
    attacks = advertisements(attacker, [address("n1"), address("p3")])
    assert attack(attacker, attacks, witnesses(lab)) == []


@contextmanager
def accepting(lab: Lab, interface: str) -> Iterator[None]:
    """accept_ra=2: also on a host that forwards (1 does nothing there)."""
    lab.sysctl("n1", f"ipv6/conf/{interface}/accept_ra", "2")
    try:
        yield
    finally:
        lab.sysctl("n1", f"ipv6/conf/{interface}/accept_ra", "0")
        # What was believed ends with its lifetime; the lab is the same for the tests to come.
        lab.ip("n1", "-6", "route", "flush", "proto", "ra")
        lab.ip("n1", "-6", "route", "flush", "root", str(DOCUMENTATION))
        lab.ip("n1", "-6", "addr", "flush", "dev", interface, "scope", "global")


def test_a_node_that_accepts_advertisements_is_noticed(lab: Lab, attacker: Attacker) -> None:
    attacks = advertisements(attacker, [])
    with accepting(lab, attacker.interface):
        # A host of many namespaces was once seen to take the prefix and not the router.
        gained = eventually(
            lambda: "\n".join(attack(attacker, attacks, witnesses(lab))),
            lambda gained: "via the attacker" in gained,
            within=20,
        )
    assert f"n1: route to default via the attacker on {attacker.interface}" in gained
    assert "of the attacker's prefix" in gained
    assert attack(attacker, attacks, witnesses(lab)) == []


def foreign() -> list[IPv6Address]:
    return [address("p3"), address("n2"), address("p2")]


def test_claims_gain_nothing(lab: Lab, attacker: Attacker) -> None:
    attacks = claims(attacker, foreign(), address("p3"))
    assert len(attacks) == 6 * 3 + 2
    assert attack(attacker, attacks, witnesses(lab)) == []


def test_a_neighbour_at_the_attackers_mac_is_noticed(lab: Lab, attacker: Attacker) -> None:
    victim = str(address("p3"))
    at = ("to", victim, "dev", PODS["p3"].interface)
    lab.ip("n1", "-6", "neigh", "replace", *at, "lladdr", attacker.mac)
    try:
        gained = Tables.read(lab.agents["n1"]).gains(attacker, DOCUMENTATION)
    finally:
        lab.ip("n1", "-6", "neigh", "del", *at)
    assert gained == [f"n1: neighbour {victim} on cali3 at the attacker's MAC {attacker.mac}"]


def test_a_node_that_takes_any_source_believes_solicitations(lab: Lab, attacker: Attacker) -> None:
    """Without Calico's reverse path filter, a solicitation makes an entry for a foreign address."""
    attacks = claims(attacker, foreign(), address("p3"))
    with faults.unchecked_sources(lab, IPV6):
        gained = attack(attacker, attacks, witnesses(lab))
    lab.ip("n1", "-6", "neigh", "flush", "dev", attacker.interface)
    assert any("at the attacker's MAC" in gain for gain in gained)


@pytest.mark.parametrize("family", FAMILIES)
def test_unasked_errors_reach_nobody(lab: Lab, family: Family) -> None:
    seen = false_errors.observe(lab_ways(lab, family), settle=SETTLE)
    assert false_errors.findings(seen) == []
    false_errors.require_control(seen)


@pytest.mark.parametrize("family", FAMILIES)
def test_unasked_errors_that_are_let_through_are_noticed(lab: Lab, family: Family) -> None:
    with faults.unchecked_sources(lab, family):
        seen = false_errors.observe(lab_ways(lab, family, [("p1", "p3")]), settle=SETTLE)
    (told,) = false_errors.findings(seen)
    assert "about a packet that was never sent came to the pod" in told


def scoped(lab: Lab) -> list[scopes.Scoped]:
    pods = [lab.p1, lab.p2, lab.p3]
    held = {p: IPv6Address(link(p, POD_INTERFACE).of(IPV6, "link")[0].ip) for p in pods}
    everywhere = [Place(f"eth0 of {pod.name}", pod, POD_INTERFACE) for pod in pods]
    return scopes.observe(lab_ways(lab, IPV6), held, everywhere, settle=SETTLE)


def test_limited_scopes_stay_on_the_link(lab: Lab) -> None:
    seen = scoped(lab)
    assert scopes.findings(seen) == []
    scopes.require_control(seen)


def test_a_relay_of_groups_is_noticed(lab: Lab) -> None:
    with strange_relay(lab, "n1", "cali1", "cali3"):
        told = scopes.findings(scoped(lab))
    assert any("a packet to ff05::1:3" in each and "eth0 of p3" in each for each in told)
    assert any("a packet to ff02::1" in each for each in told)


def test_a_node_that_does_not_tell_of_the_scope_is_noticed(lab: Lab) -> None:
    rule = [*nft.icmp(IPV6, 1), *nft.drop()]
    with faults.fault(lab.namespace("n1"), IPV6, rule, chain=faults.OUTPUT):
        told = scopes.findings(scoped(lab))
    assert told
    assert all("expected Destination Unreachable, beyond scope" in each for each in told)


def test_the_lab_is_as_it_was(lab: Lab, attacker: Attacker) -> None:
    eventually(
        lambda: attack(attacker, [], witnesses(lab)),
        lambda gained: gained == [],
        within=12,
        every=0.5,
    )
