"""Upper layers for forged packets: finished bytes, checksums of the real addresses included.

Every payload begins with the request of the agent's UDP echo server and goes on with the nonce, as
often as there is room: a fragment of the packet is found by it, too, and the answer carries it.
"""

from __future__ import annotations

import struct
from typing import Final

from scapy.layers.inet import TCP, checksum

from helpers.model import IPAddress
from helpers.packets.nonce import Nonce

ICMP: Final = 1
TCP_NUMBER: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
UDP_HEADER: Final = 8
ECHO_HEADER: Final = 8
REQUEST: Final = b"{}\n"  # what the UDP echo server answers, with all that follows

Upper = tuple[int, bytes]


def content(nonce: Nonce, octets: int | None = None) -> bytes:
    """The payload: ``octets`` long, and once the nonce at least.

    Raises:
        ValueError: the nonce does not fit.
    """
    whole = REQUEST + bytes(nonce)
    if octets is None:
        return whole
    if octets < len(whole):
        raise ValueError(f"a payload with a nonce has {len(whole)} octets at least, not {octets}")
    repeats = octets // len(bytes(nonce)) + 1
    return (REQUEST + bytes(nonce) * repeats)[:octets]


def internet_checksum(source: IPAddress, target: IPAddress, number: int, data: bytes) -> int:
    """Checksum over the pseudo-header and ``data`` (RFC 8200 8.1; RFC 768 for IPv4)."""
    pseudo = (
        struct.pack("!4s4sBBH", source.packed, target.packed, 0, number, len(data))
        if source.version == 4
        else struct.pack("!16s16sIHBB", source.packed, target.packed, len(data), 0, 0, number)
    )
    return int(checksum(pseudo + data))


def udp(
    source: IPAddress,
    target: IPAddress,
    nonce: Nonce,
    *,
    sport: int,
    dport: int,
    octets: int | None = None,
) -> Upper:
    """A UDP datagram to an echo server (RFC 768).

    Args:
        octets: of the payload.
    """
    payload = content(nonce, octets)
    ports = struct.pack("!HHH", sport, dport, UDP_HEADER + len(payload))
    # A sum that comes out as zero is sent as all ones (RFC 768).
    found = internet_checksum(source, target, UDP, ports + b"\0\0" + payload) or 0xFFFF
    return UDP, ports + struct.pack("!H", found) + payload


def echo_request(
    source: IPAddress, target: IPAddress, nonce: Nonce, octets: int | None = None
) -> Upper:
    """An ICMP (RFC 792) or ICMPv6 (RFC 4443 4.1) echo request; ``octets`` of payload."""
    ident, number = nonce.flow & 0xFFFF, nonce.sequence & 0xFFFF
    rest = struct.pack("!HH", ident, number) + content(nonce, octets)
    if source.version == 4:
        # ICMP has no pseudo-header, ICMPv6 has one.
        return ICMP, b"\x08\0" + struct.pack("!H", checksum(b"\x08\0\0\0" + rest)) + rest
    found = internet_checksum(source, target, ICMPV6, b"\x80\0\0\0" + rest)
    return ICMPV6, b"\x80\0" + struct.pack("!H", found) + rest


def tcp_syn(
    source: IPAddress,
    target: IPAddress,
    *,
    sport: int,
    dport: int,
    options: list[tuple[str | int, object]],
    flags: str = "S",
) -> Upper:
    """A TCP segment that opens a connection (RFC 9293 3.5), with options in their order."""
    made = bytearray(bytes(TCP(sport=sport, dport=dport, flags=flags, options=options, seq=1)))
    made[16:18] = b"\0\0"
    made[16:18] = struct.pack("!H", internet_checksum(source, target, TCP_NUMBER, bytes(made)))
    return TCP_NUMBER, bytes(made)
