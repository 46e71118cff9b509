"""CONN-006 on frames as a capture between nodes gives them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from helpers.fabric import Crossing, Outer, crossing_findings, require_crossing
from helpers.oneway import OneWay
from helpers.paths import Path
from helpers.verdicts import Blocked

A, B = "fd00:10:244:1::5", "fd00:10:244:2::5"
NODE_A, NODE_B = "fd00:10:243::3", "fd00:10:243::4"
NATIVE = IPv6(src=A, dst=B) / UDP(sport=40000, dport=41000) / Raw(b"nonce 0\n")


# Without addresses scapy would ask this machine's network for them.
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def outer(packet: Packet) -> Outer | None:
    return Outer.of(bytes(LINK / packet))


def crossing(*frames: Outer | None, received: int = 3) -> Crossing:
    agent: Any = None
    path = Path(agent, agent, ("pod on worker", "pod on worker2"), ("worker", "worker2"))
    flow = OneWay(3, (0, 1, 2), tuple(range(received)), frozenset(), frozenset())
    seen = tuple(frame for frame in frames if frame is not None)
    return Crossing(path, ip_address(A), ip_address(B), flow, seen)


def test_native_frames_give_no_findings() -> None:
    frame = outer(NATIVE)

    assert frame == Outer(ip_address(A), ip_address(B), None)
    assert crossing_findings([crossing(frame, frame)]) == []


@pytest.mark.parametrize(
    ("packet", "tunnel"),
    [
        (
            IPv6(src=NODE_A, dst=NODE_B) / UDP(dport=4789) / VXLAN(vni=4096) / LINK / NATIVE,
            "VXLAN (UDP 4789), from fd00:10:243::3 to fd00:10:243::4",
        ),
        (
            IP(src="10.243.0.3", dst="10.243.0.4") / IP(src="10.244.1.5", dst="10.244.2.5") / UDP(),
            "IPIP (protocol 4), from 10.243.0.3 to 10.243.0.4",
        ),
        (
            IP(src="10.243.0.3", dst="10.243.0.4", proto=41) / NATIVE,
            "an IPv6 tunnel (protocol 41), from 10.243.0.3 to 10.243.0.4",
        ),
    ],
    ids=["vxlan", "ipip", "6in4"],
)
def test_a_tunnel_is_found_by_its_outermost_header(packet: Packet, tunnel: str) -> None:
    """Fault F14: the pool's vxlanMode is Always."""
    (finding,) = crossing_findings([crossing(outer(packet))])

    assert f"IPv6 packets of pods from worker to worker2 cross the nodes' network in {tunnel}" in (
        finding
    )
    assert "set ipipMode and vxlanMode of the IPPool to Never" in finding


def test_a_translated_source_is_found() -> None:
    """Fault F17: the sender's node masquerades pod addresses."""
    packet = NATIVE.copy()
    packet.src = NODE_A

    (finding,) = crossing_findings([crossing(outer(packet), outer(packet))])

    assert f"from {NODE_A} to {B} instead of from {A} to {B}" in finding
    assert "masquerade rules" in finding


def test_datagrams_that_arrive_unseen_are_found() -> None:
    (finding,) = crossing_findings([crossing(received=3)])

    assert "they are encrypted (wireguardEnabled" in finding


def test_nothing_seen_and_nothing_arrived_is_blocked() -> None:
    lost = crossing(received=0)

    assert crossing_findings([lost]) == []
    with pytest.raises(Blocked, match="CONN-002"):
        require_crossing([lost])


def test_dropped_at_the_receiver_is_not_blocked() -> None:
    """Fault F12: what was seen between the nodes is judged, wherever it is lost later."""
    require_crossing([crossing(outer(NATIVE), received=0)])


def test_other_protocols_are_no_network_header() -> None:
    assert outer(ARP(hwsrc="02:00:00:00:00:01", psrc="10.243.0.3", pdst="10.243.0.4")) is None
