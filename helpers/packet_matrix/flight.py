"""Sending variants along ways, and what was seen of each packet.

All packets of a sender leave in one batch of prebuilt bytes; all interfaces are captured
meanwhile. Nothing is sent twice but what must be answered with an ICMP error and was not: hosts
send few of these to each address (RFC 4443 2.4 f), so that their absence needs a second look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from helpers.agents.client import Agent
from helpers.model import IPAddress
from helpers.packet_matrix.shapes import Variant
from helpers.packet_matrix.ways import Place, Way
from helpers.packets.nonce import Nonce
from helpers.packets.raw import SETTLE, RawCapture, RawFrame, capturing_all
from helpers.packets.sighting import IcmpError, Sighting, sighting
from helpers.parallel import on_each
from helpers.waiting import NotSettled, eventually

INTERVAL: Final = 0.001  # seconds between two packets of a sender: 1,000 a second
# Another attempt waits for longer than hosts wait between two errors (1 s on Linux).
AGAIN_AFTER: Final = 1.3
ATTEMPTS_WITHIN: Final = 8.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One variant on one way, before it is sent."""

    way: Way
    variant: Variant
    nonce: Nonce
    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Flown:
    """What was seen of one variant on one way.

    Attributes:
        refused: what the sender's kernel said; None when it took every packet.
        passed: names of the places where it was seen, in the order of the way.
        replied: the receiver's stack answered; ``returned``: the answer came to the sender.
        errors: ICMP errors about it that came to the sender, and from whom.
        astray: the third host saw it, or the receiver sent it on.
        attempts: how often it was sent until an error that was expected came.
        frames: what both ends' interfaces saw, for the pcap.
    """

    way: Way
    variant: Variant
    packets: tuple[bytes, ...]
    refused: str | None
    passed: tuple[str, ...]
    replied: bool
    returned: bool
    errors: tuple[tuple[IcmpError, IPAddress], ...]
    astray: bool
    frames: tuple[tuple[Place, RawFrame], ...]
    attempts: int = 1

    @property
    def arrived(self) -> bool:
        return self.way.receiver.name in self.passed

    @property
    def label(self) -> str:
        return f"{self.variant.label} {self.way.label}"


def shots(ways: Sequence[Way], variants: Sequence[Variant]) -> list[Shot]:
    """Every variant on every way, built; each way is a flow of its own."""
    made = []
    for way in ways:
        for variant, nonce in zip(variants, Nonce.fresh(len(variants)), strict=True):
            made.append(Shot(way, variant, nonce, tuple(variant.build(way.ends, nonce))))
    return made


def fly(
    wanted: Sequence[Shot], *, interval: float = INTERVAL, settle: float = SETTLE
) -> list[Flown]:
    """Send shots and say what was seen of each, in their order.

    Raises:
        Inconclusive: an agent was lost, may not send or capture, or a capture dropped frames.
    """
    places: dict[Agent, set[str]] = {}
    for shot in wanted:
        for place in shot.way.every_place:
            places.setdefault(place.agent, set()).add(place.interface)
    senders: dict[Agent, list[int]] = {}
    for index, shot in enumerate(wanted):
        senders.setdefault(shot.way.source, []).append(index)
    with capturing_all(places, settle=settle) as capture:
        refusals = on_each(
            senders, lambda agent: _send(agent, [wanted[i] for i in senders[agent]], interval)
        )
    capture.require_complete()
    refused = {
        index: told
        for agent, indexes in senders.items()
        for index, told in zip(indexes, refusals[agent], strict=True)
    }
    return [_flown(shot, capture, refused[index]) for index, shot in enumerate(wanted)]


def fly_until_told(
    wanted: Sequence[Shot],
    lacks_error: Callable[[Flown], bool],
    *,
    interval: float = INTERVAL,
    settle: float = SETTLE,
) -> list[Flown]:
    """``fly``, and again what lacks an error that it should have, until all came or time is up."""
    done: dict[int, Flown] = dict(enumerate(fly(wanted, interval=interval, settle=settle)))

    def again() -> int:
        missing = [index for index, flown in done.items() if lacks_error(flown)]
        if not missing:
            return 0
        redone = [_again(wanted[index]) for index in missing]
        flown_again = fly(redone, interval=interval, settle=settle)
        for index, flown in zip(missing, flown_again, strict=True):
            done[index] = replace(flown, attempts=done[index].attempts + 1)
        return sum(lacks_error(flown) for flown in done.values())

    if any(lacks_error(flown) for flown in done.values()):
        with contextlib.suppress(NotSettled):  # what is missing is the finding
            eventually(
                again,
                lambda missing: missing == 0,
                within=ATTEMPTS_WITHIN,
                every=AGAIN_AFTER,
                what="ICMP errors that hosts send seldom",
                describe=lambda missing: f"{missing} missing",
            )
    return [done[index] for index in range(len(wanted))]


def _again(shot: Shot) -> Shot:
    (nonce,) = Nonce.fresh()
    return replace(shot, nonce=nonce, packets=tuple(shot.variant.build(shot.way.ends, nonce)))


def _send(agent: Agent, wanted: Sequence[Shot], interval: float) -> list[str | None]:
    """Send all packets of some shots; for each shot what the kernel refused it with."""
    agent.require(*sorted({f"raw{shot.way.ends.target.version}" for shot in wanted}))
    data = [packet.hex() for shot in wanted for packet in shot.packets]
    results = iter(
        agent.call("send_packets", len(data) * (interval + 0.005) + 20, packets=data,
                   interval=interval)
    )  # fmt: skip
    told: list[str | None] = []
    for shot in wanted:
        errors = [r["error"] for r in (next(results) for _ in shot.packets) if not r["sent"]]
        told.append(str(errors[0]) if errors else None)
    return told


def _flown(shot: Shot, capture: RawCapture, refused: str | None) -> Flown:
    way, nonce = shot.way, shot.nonce
    seen = {
        place.name: [
            (frame, found)
            for frame in capture.of(place.agent, place.interface, nonce)
            if (found := sighting(frame.data)) is not None
        ]
        for place in way.every_place
    }
    here, there = seen[way.sender.name], seen[way.receiver.name]
    back = [found for frame, found in here if frame.direction != "outgoing"]
    errors = [(found.error, found.source) for found in back if found.error]
    return Flown(
        way=way,
        variant=shot.variant,
        packets=shot.packets,
        refused=refused,
        passed=tuple(
            place.name
            for place in way.places
            if any(is_ours(found, way) for _, found in seen[place.name])
        ),
        replied=any(is_answer(found, way) for f, found in there if f.direction == "outgoing"),
        returned=any(is_answer(found, way) for found in back),
        errors=tuple(dict.fromkeys(errors)),
        astray=any(is_ours(found, way) for _, found in seen[way.third.name])
        or any(is_ours(found, way) for f, found in there if f.direction == "outgoing"),
        frames=tuple(
            (place, frame) for place in (way.sender, way.receiver) for frame, _ in seen[place.name]
        ),
    )


def is_answer(found: Sighting, way: Way) -> bool:
    """Whether it is what the receiver's stack answered with, not an error."""
    return found.error is None and (found.reply or found.source_port == way.ends.port)


def is_ours(found: Sighting, way: Way) -> bool:
    """Whether it is the packet itself, not an answer to it (nor a later fragment of one)."""
    if found.error is not None or is_answer(found, way):
        return False
    return found.source not in answering(way)


def answering(way: Way) -> frozenset[IPAddress]:
    """Addresses that answers come from: the target's, which may hide behind a Service."""
    return frozenset({way.ends.target, *way.target.addresses.all})
