"""Variants along ways, and what was seen of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from helpers.model import IPAddress
from helpers.packet_matrix.carry import Carried, Parcel, came_in, carry_until, is_answer
from helpers.packet_matrix.shapes import Variant
from helpers.packet_matrix.ways import Place, Way
from helpers.packets.nonce import Nonce
from helpers.packets.raw import SETTLE, RawFrame
from helpers.packets.sighting import IcmpError


@dataclass(frozen=True, slots=True)
class Shot:
    """One variant on one way."""

    way: Way
    variant: Variant

    def parcel(self, nonce: Nonce) -> Parcel:
        return Parcel(self.way, nonce, tuple(self.variant.build(self.way.ends, nonce)))


@dataclass(frozen=True, slots=True)
class Flown:
    """What was seen of one variant on one way.

    Attributes:
        attempts: how often it was sent until an error that was expected came.
    """

    variant: Variant
    carried: Carried
    attempts: int = 1

    @property
    def way(self) -> Way:
        return self.carried.way

    @property
    def packets(self) -> tuple[bytes, ...]:
        return self.carried.parcel.packets

    @property
    def passed(self) -> tuple[str, ...]:
        return self.carried.passed

    @property
    def arrived(self) -> bool:
        return self.way.receiver.name in self.passed

    @property
    def replied(self) -> bool:
        """The receiver's stack answered."""
        return self.carried.replied

    @property
    def returned(self) -> bool:
        """The answer came to the sender."""
        back = self.carried.at(self.way.sender)
        return any(is_answer(found, self.way) for frame, found in back if came_in(frame))

    @property
    def errors(self) -> tuple[tuple[IcmpError, IPAddress], ...]:
        return self.carried.errors

    @property
    def astray(self) -> bool:
        """The third host saw it, or the receiver sent it on."""
        sent_on = [f for f, _ in self.carried.itself(self.way.receiver) if not came_in(f)]
        return bool(sent_on or self.carried.itself(self.way.third))

    @property
    def label(self) -> str:
        return f"{self.variant.label} {self.way.label}"

    def frames(self, place: Place) -> list[RawFrame]:
        """All frames of it at a place, answers and errors included."""
        return [frame for frame, _ in self.carried.at(place)]


def shots(ways: Sequence[Way], variants: Sequence[Variant]) -> list[Shot]:
    """Every variant on every way."""
    return [Shot(way, variant) for way in ways for variant in variants]


def fly_until_told(
    wanted: Sequence[Shot], lacks_error: Callable[[Flown], bool], *, settle: float = SETTLE
) -> list[Flown]:
    """Send shots, and again what lacks an ICMP error that it should have; in their order.

    Raises:
        Inconclusive: an agent was lost, may not send or capture, or a capture dropped frames.
    """
    nonces = Nonce.fresh(len(wanted))

    def build(index: int) -> Parcel:
        # The first time the nonces are of one flow; another attempt is a flow of its own.
        nonce = nonces[index] if index not in used else Nonce.fresh()[0]
        used.add(index)
        return wanted[index].parcel(nonce)

    used: set[int] = set()
    done = carry_until(
        [partial(build, index) for index in range(len(wanted))],
        lambda index, carried: lacks_error(Flown(wanted[index].variant, carried)),
        settle=settle,
    )
    return [
        Flown(shot.variant, carried, attempts)
        for shot, (carried, attempts) in zip(wanted, done, strict=True)
    ]
