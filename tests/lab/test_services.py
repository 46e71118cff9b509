"""Packets through a Service of the lab: one node translates its address to a pod on the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from helpers import path_mtu
from helpers.model import FAMILIES, Family
from helpers.packet_matrix import judge, tcp_options, ways
from helpers.packet_matrix.expected import delivered_shapes
from helpers.packet_matrix.flight import Flown, fly_until_told, shots
from helpers.packet_matrix.shapes import Carrier, variants
from tests.lab import faults, nft
from tests.lab.routes import lab_ways
from tests.lab.topology import PORT, Lab, host_addresses

SERVICE = {Family.IPV4: ip_address("10.96.0.9"), Family.IPV6: ip_address("fd00:10:96::9")}
SETTLE = 0.3
MTU = 1500


@contextmanager
def serving(lab: Lab, family: Family) -> Iterator[ways.Way]:
    """From p1 by the Service's address to p2, its only backend."""
    target = host_addresses("p2").require(family)
    rule = [*nft.toward(SERVICE[family]), *nft.dnat(target)]
    (direct,) = lab_ways(lab, family, [("p1", "p2")])
    table = "service"
    chains = [(faults.DNAT, [rule])]
    nft.add_table(lab.namespace("n1"), family, table, chains)
    try:
        yield ways.through_service(direct, ways.CLUSTER_IP, SERVICE[family], PORT)
    finally:
        nft.delete_table(lab.namespace("n1"), family, table)


def flown(way: ways.Way, family: Family) -> list[Flown]:
    wanted = variants(family, delivered_shapes(family), [Carrier.UDP])
    return fly_until_told(shots([way], wanted), judge.lacks_error, settle=SETTLE)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_delivered_directly_is_delivered_through_it(lab: Lab, family: Family) -> None:
    with serving(lab, family) as way:
        seen = flown(way, family)
    assert judge.findings(seen) == []
    judge.require_plain(seen)


def test_what_is_lost_behind_it_is_noticed(lab: Lab) -> None:
    drop = [*nft.extension(60), *nft.drop()]
    with (
        serving(lab, Family.IPV6) as way,
        faults.fault(lab.namespace("n2"), Family.IPV6, drop),
    ):
        told = judge.findings(flown(way, Family.IPV6))
    assert any("destination options with padding (udp), ClusterIP" in each for each in told)
    assert all("dropped (last seen on fabric of node n2)" in each for each in told)


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_come_back_with_the_services_address(lab: Lab, family: Family) -> None:
    """Packet Too Big of the node in front of a smaller link, about a translated flow."""
    target = host_addresses("p2").require(family)
    with serving(lab, family) as way, path_mtu.narrowed(lab.agents["n1"], target, 1400):
        wanted = [(way, size) for size in path_mtu.sizes(1400, MTU)]
        seen = path_mtu.observe(wanted, {way: 1400}, settle=SETTLE)
    assert path_mtu.findings(seen, {way: 1400}, family) == []
    assert {source for one in seen for _, source in one.errors} == {SERVICE[family]}


@pytest.mark.parametrize("family", FAMILIES)
def test_options_of_a_syn_pass_through_it(lab: Lab, family: Family) -> None:
    with serving(lab, family) as way:
        assert tcp_options.findings(tcp_options.observe([way], {way: MTU}, settle=SETTLE)) == []
        with faults.fault(lab.namespace("n2"), family, nft.set_mss(900)):
            told = tcp_options.findings(tcp_options.observe([way], {way: MTU}, settle=SETTLE))
    assert len(told) == 2
    assert "arrived as 900" in told[0]
