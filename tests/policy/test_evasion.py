"""NPOL-012: every variant is the same datagram to the same port once its headers are read."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.packet import Packet

from helpers.packets import Nonce
from helpers.policy.evasion import LEGAL, NEVER_DELIVERED, builder, kinds, tunnelled
from helpers.policy.packets import NODE_INFORMATION_QUERY, icmpv6

POD, OTHER = ip_address("fd00:10:244:1::5"), ip_address("fd00:10:244:2::5")


def written(name: str, port: int = 8080) -> tuple[Nonce, list[Packet]]:
    (nonce,) = Nonce.fresh()
    variant = {**LEGAL, **NEVER_DELIVERED}[name]
    return nonce, [IPv6(one.data) for one in builder(variant, port)(POD, OTHER, nonce)]


@pytest.mark.parametrize("name", [*LEGAL, *NEVER_DELIVERED])
def test_a_variant_is_the_same_datagram(name: str) -> None:
    nonce, packets = written(name)
    whole = defragment6(packets) if len(packets) > 1 else packets[0]
    whole = IPv6(bytes(whole))
    assert whole[UDP].dport == 8080
    assert bytes(nonce) in bytes(whole)
    assert all(packet.plen == len(bytes(packet)) - 40 for packet in packets)


def test_the_hidden_port_is_not_in_the_first_fragment() -> None:
    _, (first, second) = written(*NEVER_DELIVERED)
    assert UDP not in first
    assert (first[IPv6ExtHdrFragment].m, second[IPv6ExtHdrFragment].offset) == (1, 6)


def test_the_tiny_first_fragment_has_ports_only() -> None:
    _, (first, _) = written("tiny first fragment")
    assert first.plen == 8 + 8


def test_kinds_are_variants_times_ports() -> None:
    made = kinds(LEGAL, 1, 2)
    assert len(made) == 2 * len(LEGAL)
    assert "plain to 1" in made


def test_a_tunnel_is_one_by_its_port_alone() -> None:
    (nonce,) = Nonce.fresh()
    (packet,) = tunnelled(4789)(POD, OTHER, nonce)
    (beside,) = tunnelled(4790)(POD, OTHER, nonce)
    assert IPv6(packet.data)[UDP].dport == 4789
    assert bytes(nonce) in packet.data
    assert len(packet.data) == len(beside.data)


def test_icmpv6_of_any_type_carries_the_nonce() -> None:
    (nonce,) = Nonce.fresh()
    (packet,) = icmpv6(NODE_INFORMATION_QUERY)(POD, OTHER, nonce)
    assert packet.data[40] == NODE_INFORMATION_QUERY
    assert bytes(nonce) in packet.data
