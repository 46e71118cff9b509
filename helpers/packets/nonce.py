"""What forged packets are found by, and what they are once built."""

from __future__ import annotations

import itertools
import secrets
import struct
from dataclasses import dataclass
from typing import Final

from helpers.model import IPAddress

NONCE_BYTES: Final = 16
RUN: Final = secrets.token_bytes(8)  # tells the packets of this process from all others'
_flows = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Nonce:
    """What a packet is found by: run, flow and sequence number."""

    flow: int
    sequence: int = 0

    def __bytes__(self) -> bytes:
        return RUN + struct.pack("!II", self.flow, self.sequence)

    @classmethod
    def fresh(cls, count: int = 1) -> list[Nonce]:
        """Nonces of one new flow."""
        flow = next(_flows)
        return [cls(flow, sequence) for sequence in range(count)]


@dataclass(frozen=True, slots=True)
class Forged:
    """An IP packet ready to be sent: header included, all fields as we want them."""

    nonce: Nonce
    source: IPAddress
    target: IPAddress
    data: bytes

    @property
    def label(self) -> str:
        return f"{self.source} -> {self.target} ({len(self.data)} bytes)"
