"""Packets: what is built, and what a capture's bytes are taken for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from helpers.agents.client import Agent
from helpers.model import FAMILIES, Family
from helpers.packets import Capture, Frame, Nonce, Shot, echo_request, udp
from helpers.verdicts import Inconclusive
from tests.agents.conftest import LOOPBACK

PODS = {
    Family.IPV4: (ip_address("10.244.1.5"), ip_address("10.244.2.6")),
    Family.IPV6: (ip_address("fd00:10:244:1::5"), ip_address("fd00:10:244:2::6")),
}
NODES = {
    Family.IPV4: (ip_address("172.18.0.2"), ip_address("172.18.0.3")),
    Family.IPV6: (ip_address("fc00:f853::2"), ip_address("fc00:f853::3")),
}

# Both addresses given: scapy would otherwise ask the network for them.
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def ip_header(family: Family) -> Packet:
    source, target = map(str, NODES[family])
    return IP(src=source, dst=target) if family is Family.IPV4 else IPv6(src=source, dst=target)


def ip_packet(family: Family, data: bytes) -> Packet:
    return IP(data) if family is Family.IPV4 else IPv6(data)


def frame(packet: Packet, *, link: bool = True) -> Frame:
    data = bytes(LINK / packet if link else packet)
    return Frame.parse({"frame": data.hex(), "interface": "eth0", "direction": "host", "at": 1.0})


def capture_of(*frames: Frame, drops: int = 0) -> Capture:
    agent = Agent("a", lambda: pytest.fail("not connected"), addresses=LOOPBACK)
    return Capture(agent, ("eth0",), list(frames), seen=9, drops=drops)


def test_nonces_differ_by_flow_and_sequence() -> None:
    nonces = [*Nonce.fresh(3), *Nonce.fresh(3)]
    assert len({bytes(n) for n in nonces}) == 6
    assert {len(bytes(n)) for n in nonces} == {16}
    assert len({bytes(n)[:8] for n in nonces}) == 1  # the run


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_built_is_what_is_found(family: Family) -> None:
    source, target = PODS[family]
    for made in (udp(source, target, hop_limit=17), echo_request(source, target, hop_limit=17)):
        seen = frame(ip_packet(family, made.data))
        assert bytes(made.nonce) in seen.data
        assert len(seen.headers) == 1
        assert (seen.outer.source, seen.outer.target) == (source, target)
        assert seen.inner.hop_limit == 17
        assert seen.encapsulation is None


@pytest.mark.parametrize("family", FAMILIES)
def test_checksums_are_right(family: Family) -> None:
    """Building a second time from the parsed fields changes nothing."""
    source, target = PODS[family]
    for made in (udp(source, target), echo_request(source, target)):
        again = ip_packet(family, made.data)
        for layer in (IP, UDP, ICMP, ICMPv6EchoRequest):
            if again.haslayer(layer) and hasattr(again[layer], "chksum"):
                del again[layer].chksum
            if again.haslayer(layer) and hasattr(again[layer], "cksum"):
                del again[layer].cksum
        assert bytes(again) == made.data


def test_families_do_not_mix() -> None:
    with pytest.raises(ValueError, match="different families"):
        udp(PODS[Family.IPV4][0], PODS[Family.IPV6][0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("outer", FAMILIES)
def test_encapsulation_is_told_from_native(family: Family, outer: Family) -> None:
    made = udp(*PODS[family])
    inner = ip_packet(family, made.data)
    vxlan = frame(ip_header(outer) / UDP(sport=5, dport=4789) / VXLAN(vni=4096) / LINK / inner)
    assert vxlan.encapsulation == "vxlan"
    tunnel = frame(ip_header(outer) / inner)
    assert tunnel.encapsulation == ("ipip" if family is Family.IPV4 else "6in4")
    for seen in (vxlan, tunnel):
        assert (seen.outer.source, seen.outer.target) == NODES[outer]
        assert (seen.inner.source, seen.inner.target) == PODS[family]


def test_wireguard_is_named_by_its_port() -> None:
    seen = frame(ip_header(Family.IPV4) / UDP(sport=1, dport=51820) / Raw(b"secret"))
    assert seen.encapsulation == "wireguard"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_quoted_packet_is_not_a_carried_one(family: Family) -> None:
    made = udp(*PODS[family])
    if family is Family.IPV4:
        error = ip_header(family) / ICMP(type=3, code=3) / made.data
    else:
        from scapy.layers.inet6 import ICMPv6DestUnreach

        error = ip_header(family) / ICMPv6DestUnreach() / made.data
    seen = frame(error)
    assert len(seen.headers) == 1
    assert seen.encapsulation is None


@pytest.mark.parametrize("family", FAMILIES)
def test_interfaces_without_link_header_are_understood(family: Family) -> None:
    seen = frame(ip_packet(family, udp(*PODS[family]).data), link=False)
    assert seen.inner.source == PODS[family][0]


def test_other_frames_have_no_ip() -> None:
    seen = frame(Raw(b"\0" * 46))
    assert seen.headers == ()
    assert seen.encapsulation is None
    assert "no IP" in str(seen)


def test_a_missing_control_proves_nothing() -> None:
    made = udp(*PODS[Family.IPV6])
    there = frame(IPv6(made.data))
    capture = capture_of(there)
    assert capture.require(made.nonce, "control") == [there]
    assert capture.find(made.nonce, "outgoing") == []
    (other,) = Nonce.fresh()
    with pytest.raises(Inconclusive, match="control failed: the legal packet was not seen by a"):
        capture.require(other, "the legal packet")
    with pytest.raises(Inconclusive, match="dropped 3 frames"):
        capture_of(there, drops=3).require_complete()
    with pytest.raises(Inconclusive, match="did not leave: EPERM"):
        Shot(made, sent=False, error="EPERM").require_sent()
