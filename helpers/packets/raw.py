"""Captures of many frames as bytes: no frame is dissected before it is asked about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from helpers.agents.client import Agent
from helpers.packets.nonce import NONCE_BYTES, RUN, Nonce
from helpers.parallel import on_each
from helpers.verdicts import Inconclusive

LONGEST: Final = 1600  # a frame of the usual MTU; merged segments of bulk transfers are longer
LIMIT: Final = 200_000
SETTLE: Final = 1.5  # seconds that a packet may be late on a busy machine


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A captured frame; ``at`` in seconds since the epoch on the capturing host."""

    interface: str
    direction: str
    at: float
    data: bytes


@dataclass(slots=True)
class RawCapture:
    """Frames of this process's packets, by capturing agent, then by nonce.

    Filled when the ``with`` block of ``capturing_all`` ends.
    """

    frames: dict[Agent, dict[bytes, list[RawFrame]]] = field(default_factory=dict)
    drops: dict[Agent, int] = field(default_factory=dict)
    seen: dict[Agent, int] = field(default_factory=dict)

    def of(self, agent: Agent, interface: str, nonce: Nonce) -> list[RawFrame]:
        """Frames of a nonce at one place, in order of time."""
        found = self.frames.get(agent, {}).get(bytes(nonce), [])
        return [frame for frame in found if frame.interface == interface]

    def require_complete(self) -> None:
        """Demand that nothing was dropped.

        Raises:
            Inconclusive: frames were dropped, so an absent frame proves nothing.
        """
        lost = {agent.name: count for agent, count in self.drops.items() if count}
        if lost:
            told = ", ".join(f"{name} {count}" for name, count in lost.items())
            raise Inconclusive(f"captures dropped frames: {told}: send more slowly")


@contextmanager
def capturing_all(
    places: Mapping[Agent, Iterable[str]], *, settle: float = SETTLE, longest: int = LONGEST
) -> Iterator[RawCapture]:
    """Capture packets of this process at many places while the block runs.

    Args:
        places: interfaces by agent.
        settle: seconds to go on after the block, for packets that are only late.

    Raises:
        Inconclusive: an agent was lost or may not capture.
    """

    def start(agent: Agent) -> int:
        agent.require("packet")
        started = agent.call_one(
            "capture_start",
            interfaces=sorted(set(places[agent])),
            match=[RUN.hex()],
            longest=longest,
            snap=longest,
            limit=LIMIT,
        )
        return int(started["handle"])

    handles = on_each(places, start)
    capture = RawCapture()
    try:
        yield capture
    except BaseException:
        # What went wrong first is what is told: the agent may be another one by now.
        with contextlib.suppress(Inconclusive):
            on_each(handles, lambda agent: agent.call("close", handle=handles[agent]))
        raise

    def stop(agent: Agent) -> dict[bytes, list[RawFrame]]:
        *frames, totals = agent.call(
            "capture_stop", settle + 30, handle=handles[agent], settle=settle
        )
        capture.drops[agent] = int(totals["drops"])
        capture.seen[agent] = int(totals["seen"])
        return _by_nonce(frames)

    capture.frames = on_each(handles, stop)


def _by_nonce(frames: Iterable[Mapping[str, object]]) -> dict[bytes, list[RawFrame]]:
    found: dict[bytes, list[RawFrame]] = {}
    for one in frames:
        data = bytes.fromhex(str(one["frame"]))
        at = data.find(RUN)
        frame = RawFrame(str(one["interface"]), str(one["direction"]), float(str(one["at"])), data)
        found.setdefault(data[at : at + NONCE_BYTES], []).append(frame)
    for each in found.values():
        each.sort(key=lambda frame: frame.at)
    return found
