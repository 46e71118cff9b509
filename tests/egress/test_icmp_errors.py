"""EGR-007: ICMP errors, dissected from frames as a capture gives them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from helpers.icmp_errors import Quoted, Unreachable, quote_findings, quoted_udp
from helpers.model import IPAddress, Protocol
from helpers.packets import Frame
from helpers.probes import Observation, Outcome, Probe

OWN = {4: ip_address("10.244.1.5"), 6: ip_address("fd00:10:244::5")}
NODE = {4: ip_address("10.243.0.3"), 6: ip_address("fd00:10:243::3")}
TARGET = {4: ip_address("198.51.100.10"), 6: ip_address("2001:db8::a")}
PORT = 20_123


def frame(packet: Packet) -> Frame:
    data = bytes(Ether() / packet)
    return Frame.parse({"frame": data.hex(), "interface": "eth0", "direction": "host", "at": 1.0})


def error(version: int, quoted_source: IPAddress) -> Frame:
    inner = UDP(sport=PORT, dport=9) / Raw(b"n" * 16)
    header = IP if version == 4 else IPv6
    quoted = header(src=str(quoted_source), dst=str(TARGET[version])) / inner
    outer = header(src=str(TARGET[version]), dst=str(OWN[version]))
    kind = ICMP(type=3, code=3) if version == 4 else ICMPv6DestUnreach(code=4)
    return frame(outer / kind / quoted)


@pytest.mark.parametrize("version", [4, 6])
def test_the_quoted_packet(version: int) -> None:
    own, target = OWN[version], TARGET[version]
    assert quoted_udp(error(version, own)) == Quoted(own, own, target, PORT, 9)


def test_other_frames_quote_nothing() -> None:
    assert quoted_udp(frame(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2))) is None


def judged(version: int, *quotes: Quoted) -> list[str]:
    return quote_findings(
        "agent-x on worker", quotes, own=OWN[version], target=TARGET[version], port=PORT
    )


@pytest.mark.parametrize("version", [4, 6])
def test_a_good_error(version: int) -> None:
    quote = quoted_udp(error(version, OWN[version]))
    assert quote is not None
    assert judged(version, quote) == []


@pytest.mark.parametrize(("version", "name"), [(4, "icmp"), (6, "icmpv6")])
def test_errors_that_are_dropped_on_the_way(version: int, name: str) -> None:
    """nft: icmpv6 type destination-unreachable drop."""
    (found,) = judged(version)
    assert "came to its interface: destination-unreachable is dropped" in found
    assert f"drop {name} type destination-unreachable" in found


def test_an_error_whose_inside_is_still_translated() -> None:
    quote = quoted_udp(error(4, NODE[4]))
    assert quote is not None
    (found,) = judged(4, quote)
    assert found == (
        "pod agent-x on worker: an ICMP error quotes 10.243.0.3:20123 -> 198.51.100.10, but the "
        "pod sent 10.244.1.5:20123 -> 198.51.100.10: the translation of the flow was not undone "
        "inside of the error"
    )


def test_a_socket_that_is_told_nothing() -> None:
    probe = Probe(Protocol.UDP, TARGET[6], 9)
    told = Observation(probe, Outcome.TIMEOUT, error="nothing for 1 s after sending")
    seen = Unreachable(PORT, (), told)
    assert not seen.complete
    assert seen.socket_findings("agent-x on worker") == [
        "pod agent-x on worker: its connected UDP socket saw udp [2001:db8::a]:9: timeout "
        "(nothing for 1 s after sending), expected refused: applications wait for a timeout "
        "instead of an error"
    ]
    refused = Unreachable(PORT, (), Observation(probe, Outcome.REFUSED))
    assert refused.socket_findings("x") == []
