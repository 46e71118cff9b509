"""IPv6 extension headers: what each is, and packets that carry a chain of them.

A chain is assembled by hand, header by header, because most of the interesting ones are illegal
and scapy would put them right: the checksum of the upper layer is made for the real addresses,
and each header names the next one whatever that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    Jumbo,
    PadN,
    RouterAlert,
)
from scapy.packet import Packet

from helpers.model import IPAddress

HOP_BY_HOP: Final = 0
ROUTING: Final = 43
FRAGMENT: Final = 44
ESP: Final = 50
AH: Final = 51
NO_NEXT_HEADER: Final = 59
DESTINATION_OPTIONS: Final = 60
MOBILITY: Final = 135
HOST_IDENTITY: Final = 139
EXPERIMENT: Final = 253  # RFC 3692: for experiments, so nobody's

# Option types for experiments (RFC 4727 4.2). The first two bits say what a node does that does
# not know the option (RFC 8200 4.2), the third whether the option may change on the way.
SKIP: Final = 0x1E
SKIP_MUTABLE: Final = 0x3E
DISCARD: Final = 0x5E
DISCARD_AND_TELL: Final = 0x9E
DISCARD_AND_TELL_UNICAST: Final = 0xDE

UNKNOWN_ROUTING_TYPE: Final = 253  # RFC 4727 5


@dataclass(frozen=True, slots=True)
class Header:
    """One extension header; its first byte is replaced by the number of what follows."""

    number: int
    data: bytes


def hop_by_hop(*options: Packet) -> Header:
    """Hop-by-Hop Options, examined by every node on the way (RFC 8200 4.3)."""
    return Header(HOP_BY_HOP, bytes(IPv6ExtHdrHopByHop(options=list(options))))


def destination_options(*options: Packet) -> Header:
    """Destination Options, examined by the destination alone (RFC 8200 4.6)."""
    return Header(DESTINATION_OPTIONS, bytes(IPv6ExtHdrDestOpt(options=list(options))))


def padding(octets: int = 6) -> Packet:
    """PadN of ``octets`` in all (RFC 8200 4.2); six fill a header of 8 octets."""
    return PadN(optdata=bytes(octets - 2))


def option(kind: int, octets: int = 6) -> Packet:
    """An option that nobody knows, of ``octets`` in all (RFC 8200 4.2, RFC 4727 4.2)."""
    return HBHOptUnknown(otype=kind, optdata=bytes(octets - 2))


def router_alert() -> Packet:
    """Router Alert (RFC 2711 2.1): routers look closer, and forward all the same."""
    return RouterAlert(value=1)


def jumbo(length: int) -> Packet:
    """Jumbo Payload (RFC 2675 2)."""
    return Jumbo(jumboplen=length)


def routing_type_0(hops: Sequence[IPAddress], segments_left: int) -> Header:
    """Type 0 Routing Header (RFC 2460 4.4), which RFC 5095 3 forbids to execute."""
    made = IPv6ExtHdrRouting(type=0, segleft=segments_left, addresses=list(map(str, hops)))
    return Header(ROUTING, bytes(made))


def routing_unknown(segments_left: int) -> Header:
    """A Routing Header of a type that nobody knows (RFC 8200 4.4)."""
    return Header(ROUTING, bytes([0, 0, UNKNOWN_ROUTING_TYPE, segments_left, 0, 0, 0, 0]))


def segment_routing(segments: Sequence[IPAddress], segments_left: int) -> Header:
    """Segment Routing Header (RFC 8754 2); ``segments`` in its own, reversed order."""
    made = IPv6ExtHdrSegmentRouting(
        segleft=segments_left, lastentry=len(segments) - 1, addresses=list(map(str, segments))
    )
    return Header(ROUTING, bytes(made))


def authentication() -> Header:
    """Authentication Header with a check value that nobody can check (RFC 4302 2)."""
    words = 6  # of 32 bits; the length field counts them less 2
    spi, sequence, value = b"\0\0\1\1", b"\0\0\0\1", bytes(12)
    return Header(AH, bytes([0, words - 2, 0, 0]) + spi + sequence + value)


def encapsulated(content: bytes) -> bytes:
    """Encapsulating Security Payload (RFC 4303 2): opaque, so it is an upper layer here."""
    return b"\0\0\1\2" + b"\0\0\0\1" + content


def filling(octets: int, kind: int = SKIP) -> list[Packet]:
    """Unknown options that make a header of ``octets``: as few as can be (RFC 8200 4.2).

    Raises:
        ValueError: there is no such header.
    """
    if octets % 8 or not 8 <= octets <= 2048:
        raise ValueError(f"a header of options has 8, 16, ... 2048 octets, not {octets}")
    made, left = [], octets - 2
    while left:
        # No single octet may remain: an option has two at least.
        size = min(left, 256) if left - min(left, 256) != 1 else 255
        made.append(option(kind, size))
        left -= size
    return made


def chained(
    source: IPAddress,
    target: IPAddress,
    headers: Sequence[Header],
    upper: tuple[int, bytes],
    *,
    hop_limit: int = 64,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    """An IPv6 packet with a chain of headers in front of an upper layer (RFC 8200 4.1).

    Args:
        upper: protocol number and the finished bytes, checksum included.
    """
    following, data = upper
    for header in reversed(headers):
        data = bytes([following]) + header.data[1:] + data
        following = header.number
    fixed = IPv6(
        src=str(source),
        dst=str(target),
        nh=following,
        hlim=hop_limit,
        plen=len(data),
        tc=traffic_class,
        fl=flow_label,
    )
    return bytes(fixed) + data
