"""Fragments of both families, cut by hand: in any order, overlapping, atomic, or cut too early.

Offsets count units of 8 octets in both families. IPv4 has its fields in the header (RFC 791 3.1),
IPv6 in a header of its own (RFC 8200 4.5), which intermediate nodes never add.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from scapy.layers.inet import IP

from helpers.model import IPAddress
from helpers.packets.extension import FRAGMENT, Header, chained
from helpers.packets.upper import Upper

UNIT: Final = 8
Piece = tuple[int, int]  # where it begins in the payload and where it ends, in octets


def pieces(length: int, size: int) -> list[Piece]:
    """Consecutive pieces of ``size`` octets (a multiple of 8) that cover ``length``.

    Raises:
        ValueError: the size is no multiple of 8.
    """
    if size % UNIT:
        raise ValueError(f"fragments but the last have a multiple of {UNIT} octets, not {size}")
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def fragment_header(offset: int, *, more: bool, identification: int) -> Header:
    """Fragment Header of IPv6 (RFC 8200 4.5)."""
    return Header(
        FRAGMENT, struct.pack("!BBHI", 0, 0, offset // UNIT << 3 | int(more), identification)
    )


def fragmented(
    source: IPAddress,
    target: IPAddress,
    upper: Upper,
    cut: Iterable[Piece],
    *,
    before: Sequence[Header] = (),
    after: Sequence[Header] = (),
    identification: int | None = None,
    hop_limit: int = 64,
) -> list[bytes]:
    """Fragments of one datagram, in the order of ``cut``.

    Args:
        before: IPv6 headers in front of the fragment header, repeated in each (RFC 8200 4.5).
        after: IPv6 headers that are themselves cut.
        identification: default: one that was not used before.
    """
    number, data = upper
    for header in reversed(after):
        data = bytes([number]) + header.data[1:] + data
        number = header.number
    if identification is None:
        identification = secrets.randbits(32 if source.version == 6 else 16)
    made = []
    for start, stop in cut:
        more = stop < len(data)
        if source.version == 4:
            made.append(
                _fragment4(source, target, number, data[start:stop], start, more, identification)
            )
        else:
            header = fragment_header(start, more=more, identification=identification)
            piece = (number, data[start:stop])
            made.append(chained(source, target, [*before, header], piece, hop_limit=hop_limit))
    return made


def _fragment4(
    source: IPAddress,
    target: IPAddress,
    number: int,
    data: bytes,
    start: int,
    more: bool,
    identification: int,
) -> bytes:
    header = IP(
        src=str(source),
        dst=str(target),
        proto=number,
        id=identification,
        flags="MF" if more else 0,
        frag=start // UNIT,
        len=20 + len(data),
    )
    return bytes(header) + data


def atomic(
    source: IPAddress, target: IPAddress, upper: Upper, *, identification: int | None = None
) -> bytes:
    """A whole datagram in one fragment (RFC 6946 2)."""
    (made,) = fragmented(source, target, upper, [(0, len(upper[1]))], identification=identification)
    return made
