"""RTE-004: what a BGP peer was told, from bytes to a verdict."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from helpers.announcements import Announced, announcement_findings, require_told
from helpers.bgp_listener import Peer, open_message
from helpers.calico import BlockAffinity
from helpers.model import Family
from helpers.verdicts import Inconclusive

BLOCK4, BLOCK6 = ip_network("10.244.1.0/26"), ip_network("fd00:10:244:1::/122")
FOREIGN = ip_network("fd00:10:244:2::/122")
STRANGE = ip_network("fd00:10:244:1::dead/128")
AFFINITIES = [
    BlockAffinity(BLOCK4, "worker", "confirmed"),
    BlockAffinity(BLOCK6, "worker", "confirmed"),
    BlockAffinity(FOREIGN, "worker2", "confirmed"),
]


def packed(network: IPv4Network | IPv6Network) -> bytes:
    octets = (network.prefixlen + 7) // 8
    return bytes([network.prefixlen]) + network.network_address.packed[:octets]


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!BBH", 0x90, kind, len(value)) + value


def update(*, gone: bytes = b"", attributes: bytes = b"", came: bytes = b"") -> bytes:
    lengths = struct.pack("!H", len(gone)), struct.pack("!H", len(attributes))
    return lengths[0] + gone + lengths[1] + attributes + came


def reach6(*networks: IPv6Network) -> bytes:
    head = struct.pack("!HBB", 2, 1, 16) + bytes(16) + b"\0"
    return attribute(14, head + b"".join(map(packed, networks)))


def unreach6(*networks: IPv6Network) -> bytes:
    return attribute(15, struct.pack("!HB", 2, 1) + b"".join(map(packed, networks)))


def test_routes_of_both_families_come_and_go() -> None:
    assert isinstance(BLOCK6, IPv6Network)
    assert isinstance(FOREIGN, IPv6Network)
    peer = Peer("fd00:10:243::3")
    origin = struct.pack("!BBBB", 0x40, 1, 1, 0)
    peer.update(update(attributes=origin, came=packed(BLOCK4)))
    peer.update(update(attributes=origin + reach6(BLOCK6, FOREIGN)))
    assert peer.routes == {str(BLOCK4), str(BLOCK6), str(FOREIGN)}
    peer.update(update(gone=packed(BLOCK4), attributes=unreach6(FOREIGN)))
    assert peer.routes == {str(BLOCK6)}
    assert not peer.done


@pytest.mark.parametrize("marker", [update(), update(attributes=unreach6())], ids=["ipv4", "ipv6"])
def test_the_end_of_what_a_peer_has(marker: bytes) -> None:
    peer = Peer("x")
    peer.update(marker)
    assert peer.done


def test_the_greeting_is_as_long_as_it_says() -> None:
    greeting = open_message(64512, "192.0.2.250")
    assert struct.unpack("!H", greeting[16:18])[0] == len(greeting)
    assert greeting[28] == len(greeting) - 29  # optional parameters


def findings(*prefixes: IPv4Network | IPv6Network, complete: bool = True) -> list[str]:
    told = Announced("worker", prefixes, complete)
    return announcement_findings([told], AFFINITIES, [], Family.IPV6)


def test_own_blocks_are_all_that_may_be_announced() -> None:
    assert findings(BLOCK6) == []
    (finding,) = findings(BLOCK6, STRANGE)
    assert f"worker announces {STRANGE} to a peer outside" in finding
    (finding,) = findings(BLOCK6, FOREIGN)
    assert f"worker announces {FOREIGN}" in finding


def test_a_block_that_is_missing_is_found_when_all_was_told() -> None:
    (finding,) = findings()
    assert f"does not announce its blocks {BLOCK6}" in finding
    assert findings(complete=False) == []


def test_a_session_that_ends_early_decides_nothing() -> None:
    with pytest.raises(Inconclusive, match="worker \\(no session\\)"):
        require_told([Announced("worker", (), False, "no session")], Family.IPV6)
