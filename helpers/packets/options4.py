"""IPv4 packets with options: what IPv4 has in the place of extension headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scapy.layers.inet import IP

from helpers.model import IPAddress
from helpers.packets.upper import Upper

NO_OPERATION: Final = b"\x01"
RECORD_ROUTE, TIMESTAMP, LOOSE_ROUTE, STRICT_ROUTE = 7, 68, 131, 137  # RFC 791 3.1
ROUTER_ALERT: Final = b"\x94\x04\x00\x00"  # RFC 2113 2.1
EXPERIMENT: Final = b"\x5e\x04\x00\x00"  # type 94, for experiments (RFC 4727 3)


def record_route(slots: int = 3) -> bytes:
    """Record Route: each router writes its address into a slot (RFC 791 3.1)."""
    return bytes([RECORD_ROUTE, 3 + 4 * slots, 4]) + bytes(4 * slots)


def timestamp(slots: int = 3) -> bytes:
    """Internet Timestamp: each router writes the time into a slot (RFC 791 3.1)."""
    return bytes([TIMESTAMP, 4 + 4 * slots, 5, 0]) + bytes(4 * slots)


def source_route(kind: int, hops: Sequence[IPAddress]) -> bytes:
    """Loose or Strict Source and Record Route (RFC 791 3.1)."""
    return bytes([kind, 3 + 4 * len(hops), 4]) + b"".join(hop.packed for hop in hops)


def with_options(
    source: IPAddress,
    target: IPAddress,
    options: bytes,
    upper: Upper,
    *,
    hop_limit: int = 64,
    tos: int = 0,
) -> bytes:
    """An IPv4 packet with options, filled with End of Option List to a multiple of 4 octets."""
    number, data = upper
    filled = options + bytes(-len(options) % 4)
    fixed = bytearray(
        bytes(
            IP(
                src=str(source),
                dst=str(target),
                proto=number,
                ttl=hop_limit,
                tos=tos,
                ihl=5 + len(filled) // 4,
                len=20 + len(filled) + len(data),
                flags="DF",
            )
        )[:20]
    )
    return bytes(fixed) + filled + data
