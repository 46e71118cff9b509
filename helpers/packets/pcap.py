"""Captured frames as a pcap file, for tcpdump and Wireshark."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

LINK_ETHERNET: Final = 1
LONGEST: Final = 65_535
HEADER: Final = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, LONGEST, LINK_ETHERNET)


def pcap(frames: Iterable[tuple[float, bytes]]) -> bytes:
    """A pcap file of Ethernet frames, each with its time in seconds since the epoch.

    Source: draft-ietf-opsawg-pcap, file format 2.4.
    """
    parts = [HEADER]
    for at, data in frames:
        seconds = int(at)
        micro = int((at - seconds) * 1e6)
        parts += [struct.pack("=IIII", seconds, micro, len(data), len(data)), data]
    return b"".join(parts)
