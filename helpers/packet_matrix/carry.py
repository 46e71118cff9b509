"""Packets of any kind along ways: sent in batches, and sighted at every place of the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from helpers.agents.client import Agent
from helpers.model import IPAddress
from helpers.packet_matrix.ways import Place, Way
from helpers.packets.nonce import Nonce
from helpers.packets.pace import interval
from helpers.packets.raw import SETTLE, RawCapture, RawFrame, capturing_all
from helpers.packets.sighting import IcmpError, Sighting, sighting
from helpers.parallel import on_each
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, eventually

# Another attempt waits for longer than hosts wait between two errors (1 s on Linux).
AGAIN_AFTER: Final = 1.3
ATTEMPTS_WITHIN: Final = 12.0

Seen = tuple[RawFrame, Sighting]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Packets of one nonce for one way, before they are sent."""

    way: Way
    nonce: Nonce
    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """What was seen of a parcel.

    Attributes:
        refused: what the sender's kernel said; None when it took every packet.
        seen: frames with its nonce by the name of the place, in order of time.
    """

    parcel: Parcel
    refused: str | None
    seen: Mapping[str, Sequence[Seen]]

    @property
    def way(self) -> Way:
        return self.parcel.way

    @property
    def passed(self) -> tuple[str, ...]:
        """Places where it was seen itself (no answer, no error), in the order of the way."""
        return tuple(place.name for place in self.way.places if self.itself(place))

    @property
    def errors(self) -> tuple[tuple[IcmpError, IPAddress], ...]:
        """ICMP errors about it that came to the sender, and from whom; each once."""
        back = [found for frame, found in self.at(self.way.sender) if came_in(frame)]
        return tuple(dict.fromkeys((one.error, one.source) for one in back if one.error))

    @property
    def replied(self) -> bool:
        """Whether the receiver's stack answered."""
        there = self.at(self.way.receiver)
        return any(is_answer(found, self.way) for frame, found in there if not came_in(frame))

    def at(self, place: Place) -> Sequence[Seen]:
        return self.seen[place.name]

    def itself(self, place: Place) -> list[Seen]:
        """Sightings of the packet itself at a place."""
        return [(frame, found) for frame, found in self.at(place) if is_ours(found, self.way)]

    @property
    def where_lost(self) -> str:
        """The last place that saw it, for a packet that did not arrive."""
        if not self.passed:
            return "not even its own interface saw it"
        return f"last seen on {self.passed[-1]}"

    def require_left(self) -> None:
        """Demand that it was seen going out.

        Raises:
            Inconclusive: it was not: whatever follows says nothing of the network.
        """
        if self.refused is not None or not self.passed:
            why = self.refused or "its own interface did not see it"
            raise Inconclusive(f"a packet {self.way.label} did not leave: {why}")


def came_in(frame: RawFrame) -> bool:
    return frame.direction != "outgoing"


def is_answer(found: Sighting, way: Way) -> bool:
    """Whether it is what the receiver's stack answered with, not an error."""
    # A Service's port on one side of the node that translates, the receiver's own on the other.
    ports = (way.ends.port, way.target.port)
    return found.error is None and (found.reply or found.source_port in ports)


def is_ours(found: Sighting, way: Way) -> bool:
    """Whether it is the packet itself, not an answer to it (nor a later fragment of one)."""
    if found.error is not None or is_answer(found, way):
        return False
    if found.source_port is not None:
        return True
    # Answers come from the target, which may hide behind a Service.
    return found.source not in {way.ends.target, *way.target.addresses.all}


def carry(parcels: Sequence[Parcel], *, settle: float = SETTLE) -> list[Carried]:
    """Send parcels, one batch for each sender, and say what was seen of each, in their order.

    Raises:
        Inconclusive: an agent was lost, may not send or capture, or a capture dropped frames.
    """
    places: dict[Agent, set[str]] = {}
    for parcel in parcels:
        for place in parcel.way.every_place:
            places.setdefault(place.agent, set()).add(place.interface)
    senders: dict[Agent, list[int]] = {}
    for index, parcel in enumerate(parcels):
        senders.setdefault(parcel.way.source, []).append(index)
    with capturing_all(places, settle=settle) as capture:
        refusals = on_each(
            senders, lambda agent: _send(agent, [parcels[i] for i in senders[agent]])
        )
    capture.require_complete()
    refused = {
        index: told
        for agent, indexes in senders.items()
        for index, told in zip(indexes, refusals[agent], strict=True)
    }
    return [
        Carried(parcel, refused[index], _seen(parcel, capture))
        for index, parcel in enumerate(parcels)
    ]


def carry_until(
    make: Sequence[Callable[[], Parcel]],
    lacks_error: Callable[[int, Carried], bool],
    *,
    settle: float = SETTLE,
) -> list[tuple[Carried, int]]:
    """Send what ``make`` builds, and again what lacks an ICMP error that it should have.

    Hosts send few errors to each address (RFC 4443 2.4 f), so that the absence of one needs a
    second look; nothing else is sent twice.

    Args:
        make: builds a parcel anew, with another nonce.
        lacks_error: by the index of the parcel.

    Returns:
        what was seen last, and how often it was sent.
    """
    first = carry([build() for build in make], settle=settle)
    done = {index: (carried, 1) for index, carried in enumerate(first)}

    def missing() -> list[int]:
        return [index for index, (carried, _) in done.items() if lacks_error(index, carried)]

    def again() -> int:
        late = missing()
        redone = carry([make[index]() for index in late], settle=settle) if late else []
        for index, carried in zip(late, redone, strict=True):
            done[index] = (carried, done[index][1] + 1)
        return len(missing())

    if missing():
        with contextlib.suppress(NotSettled):  # what is missing is the finding
            eventually(
                again,
                lambda count: count == 0,
                within=ATTEMPTS_WITHIN,
                every=AGAIN_AFTER,
                what="ICMP errors that hosts send seldom",
                describe=lambda count: f"{count} missing",
            )
    return [done[index] for index in range(len(make))]


def _send(agent: Agent, wanted: Sequence[Parcel]) -> list[str | None]:
    """Send all packets of some parcels; for each parcel what the kernel refused it with."""
    agent.require(*sorted({f"raw{parcel.way.ends.target.version}" for parcel in wanted}))
    data = [packet.hex() for parcel in wanted for packet in parcel.packets]
    pause = interval([agent])
    deadline = len(data) * (pause + 0.005) + 20
    results = iter(agent.call("send_packets", deadline, packets=data, interval=pause))
    told: list[str | None] = []
    for parcel in wanted:
        errors = [r["error"] for r in (next(results) for _ in parcel.packets) if not r["sent"]]
        told.append(str(errors[0]) if errors else None)
    return told


def _seen(parcel: Parcel, capture: RawCapture) -> dict[str, list[Seen]]:
    return {
        place.name: [
            (frame, found)
            for frame in capture.of(place.agent, place.interface, parcel.nonce)
            if (found := sighting(frame.data)) is not None
        ]
        for place in parcel.way.every_place
    }
