"""Captured bytes as a sighting: whose packet it is, and whether it is an answer. Without scapy.

Thousands of frames of one run are looked at; scapy would take seconds for what is read here in
milliseconds. Only what decides is read: addresses, hop limit, and the ICMP error or reply.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from helpers.model import IPAddress
from helpers.packets.capture import IPIP, IPV6_IN_IP, VXLAN_PORT
from helpers.packets.extension import AH, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING
from helpers.packets.upper import ICMP, ICMPV6, UDP

ETHERNET: Final = 14
VXLAN_HEADERS: Final = 8 + 8 + ETHERNET
CHAINED: Final = frozenset({HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS})
ERRORS4: Final = frozenset({3, 4, 5, 11, 12})  # RFC 792: unreachable, quench, redirect, ...
ECHO_REPLIES: Final = {4: 0, 6: 129}
FIRST_INFORMATIONAL: Final = 128  # ICMPv6 types below are errors (RFC 4443 2.1)


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error. ``value`` is the MTU of Packet Too Big, or the pointer, in its place."""

    kind: int
    code: int
    value: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.code}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One captured IP packet, the innermost when tunnels are on the way.

    Attributes:
        error: set when it is an ICMP error: then it quotes one of our packets.
        reply: it is an echo reply.
        source_port: of a UDP datagram, None for others.
        traffic_class: DSCP and ECN. ``flow_label`` is 0 for IPv4.
        fragment: it is a fragment (not necessarily a later one).
    """

    source: IPAddress
    target: IPAddress
    hop_limit: int
    error: IcmpError | None = None
    reply: bool = False
    source_port: int | None = None
    traffic_class: int = 0
    flow_label: int = 0
    fragment: bool = False


def ip_part(frame: bytes) -> bytes:
    """The IP packet in a frame, with or without Ethernet header; empty when there is none."""
    if frame[12:14] in (b"\x08\0", b"\x86\xdd"):
        return frame[ETHERNET:]
    return frame if frame and frame[0] >> 4 in (4, 6) else b""


def sighting(frame: bytes) -> Sighting | None:
    """Parse a captured frame; None when it holds no whole IP header."""
    data = ip_part(frame)
    if not data:
        return None
    try:
        return _packet4(data) if data[0] >> 4 == 4 else _packet6(data)
    except (IndexError, struct.error, ValueError):
        return None


def _packet4(data: bytes) -> Sighting | None:
    length, protocol = (data[0] & 15) * 4, data[9]
    flags = struct.unpack("!H", data[6:8])[0]
    if protocol in (IPIP, IPV6_IN_IP):
        return sighting(data[length:])
    first = not flags & 0x1FFF
    return _upper(
        data[length:] if first else b"",
        protocol,
        source=IPv4Address(data[12:16]),
        target=IPv4Address(data[16:20]),
        hop_limit=data[8],
        traffic_class=data[1],
        fragment=bool(flags & 0x3FFF),
    )


def _packet6(data: bytes) -> Sighting | None:
    word = struct.unpack("!I", data[:4])[0]
    following, at, fragment, first = data[6], 40, False, True
    # A fragment may end inside of the chain: what follows is then unknown.
    while first and at + 8 <= len(data):
        if following in CHAINED:
            following, at = data[at], at + (data[at + 1] + 1) * 8
        elif following == AH:
            following, at = data[at], at + (data[at + 1] + 2) * 4
        elif following == FRAGMENT:
            fragment = True
            first = not struct.unpack("!H", data[at + 2 : at + 4])[0] >> 3
            following, at = data[at], at + 8
        else:
            break
    if following in (IPIP, IPV6_IN_IP):
        return sighting(data[at:])
    return _upper(
        data[at:] if first else b"",
        following,
        source=IPv6Address(data[8:24]),
        target=IPv6Address(data[24:40]),
        hop_limit=data[7],
        traffic_class=word >> 20 & 0xFF,
        flow_label=word & 0xFFFFF,
        fragment=fragment,
    )


def _upper(
    data: bytes,
    protocol: int,
    *,
    source: IPAddress,
    target: IPAddress,
    hop_limit: int,
    traffic_class: int,
    fragment: bool,
    flow_label: int = 0,
) -> Sighting | None:
    error, reply, port = None, False, None
    if protocol in (ICMP, ICMPV6) and len(data) >= 8:
        kind, code = data[0], data[1]
        is_error = kind in ERRORS4 if protocol == ICMP else 0 < kind < FIRST_INFORMATIONAL
        if is_error:
            error = IcmpError(kind, code, _value(protocol, data))
        reply = kind == ECHO_REPLIES[source.version]
    elif protocol == UDP and len(data) >= 8:
        port, dport = struct.unpack("!HH", data[:4])
        if dport == VXLAN_PORT:
            return sighting(data[VXLAN_HEADERS - ETHERNET :])
    return Sighting(
        source, target, hop_limit, error, reply, port, traffic_class, flow_label, fragment
    )


def _value(protocol: int, data: bytes) -> int:
    """MTU or pointer: the second word; of IPv4's "fragmentation needed" its last 16 bits."""
    word: int = struct.unpack("!I", data[4:8])[0]
    return word & 0xFFFF if protocol == ICMP and data[0] == 3 else word
