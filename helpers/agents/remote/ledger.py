"""What became of each thing that a continuous flow sent.

All times are this host's monotonic clock: the harness knows its offset. A gap is told with the
least and the most that it can have lasted, from what was sent and delivered around it: a sender
that was itself held up shows as a wide gap between the two, never as an outage of the network.
"""

from __future__ import annotations

import base64
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Json

WAITING, DELIVERED, FAILED = 0, 1, 2
SHOWN = 500  # gaps and stalls of one report; totals count all of them


class Bitmap:
    """Numbers that were seen, one bit each: a day of a flow fits in some hundred kB."""

    def __init__(self) -> None:
        self.bits = bytearray()
        self.count = self.duplicates = self.reordered = 0
        self.highest = -1

    def add(self, number: int) -> None:
        byte, bit = divmod(number, 8)
        if byte >= len(self.bits):
            self.bits.extend(bytes(byte + 1 - len(self.bits)))
        if self.bits[byte] >> bit & 1:
            self.duplicates += 1
            return
        self.bits[byte] |= 1 << bit
        self.count += 1
        if number < self.highest:
            self.reordered += 1
        self.highest = max(self.highest, number)

    def text(self) -> str:
        return base64.b64encode(bytes(self.bits)).decode()


class Ledger:
    """Everything that one flow sent: when, and whether it was delivered.

    ``patience``: what takes longer is a stall; what is not delivered by then is lost, unless it
    is delivered after all before the flow ends.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.sent = array("d")
        self.state = bytearray()
        self.errors: dict[str, int] = {}
        self.slowest = 0.0
        self.stalls: list[list[float]] = []  # [began, ended], not overlapping

    def send(self, now: float) -> int:
        """Number of what is sent now."""
        self.sent.append(now)
        self.state.append(WAITING)
        return len(self.sent) - 1

    def deliver(self, number: int, now: float) -> None:
        if self.state[number] != WAITING:
            return  # given up before, or answered twice
        self.state[number] = DELIVERED
        began = self.sent[number]
        self.slowest = max(self.slowest, now - began)
        if now - began > self.patience:
            if self.stalls and began <= self.stalls[-1][1]:
                self.stalls[-1][1] = max(self.stalls[-1][1], now)
            else:
                self.stalls.append([began, now])

    def fail(self, number: int, why: str) -> None:
        if self.state[number] == WAITING:
            self.state[number] = FAILED
            self.errors[why] = self.errors.get(why, 0) + 1

    def settle(self, delivered: str) -> None:
        """What a receiver saw (``Bitmap.text``); the rest still waits for other receivers."""
        bits = base64.b64decode(delivered)
        for number in range(min(len(self.sent), len(bits) * 8)):
            if bits[number >> 3] >> (number & 7) & 1 and self.state[number] == WAITING:
                self.state[number] = DELIVERED

    def report(self, now: float, *, final: bool) -> Json:
        """Losses and gaps; without ``final`` what was sent just now is left out."""
        decided = len(self.sent)
        while decided and not final and self.state[decided - 1] == WAITING:
            if now - self.sent[decided - 1] > self.patience:
                break
            decided -= 1
        gaps = self._gaps(decided, now)
        stalls = [[*stall, stall[1] - stall[0]] for stall in self.stalls]
        if not final:
            stalls += self._hanging(decided, now)
        pauses = (self.sent[n] - self.sent[n - 1] for n in range(1, decided))
        return {
            "began": self.sent[0] if self.sent else now,
            "until": now,
            "sent": decided,
            "lost": sum(gap["lost"] for gap in gaps),
            "gaps": sorted(gaps, key=lambda gap: -float(gap["seconds"]))[:SHOWN],
            "gap_count": len(gaps),
            "outage": sum(gap["seconds"] for gap in gaps),
            "stalls": sorted(stalls, key=lambda stall: -stall[2])[:SHOWN],
            "slowest": self.slowest,
            "longest_pause": max(pauses, default=0.0),
            "errors": dict(self.errors),
        }

    def _hanging(self, decided: int, now: float) -> list[list[float]]:
        """What was sent first and is still waited for, beyond patience: a stall that goes on."""
        for number in range(decided):
            if self.state[number] == WAITING:
                began = self.sent[number]
                return [[began, now, now - began]] if now - began > self.patience else []
        return []

    def _gaps(self, decided: int, now: float) -> list[Json]:
        """Runs of what was not delivered."""
        gaps = []
        first = None
        for number in range(decided + 1):
            if number < decided and self.state[number] != DELIVERED:
                first = number if first is None else first
            elif first is not None:
                gaps.append(self._gap(first, number, decided, now))
                first = None
        return gaps

    def _gap(self, first: int, after: int, decided: int, now: float) -> Json:
        """Numbers ``first`` to ``after`` - 1 were lost."""
        is_open = after == decided
        began, ended = self.sent[first], now if is_open else self.sent[after]
        before = self.sent[first - 1] if first else began
        return {
            "began": began,
            "ended": ended,
            "seconds": ended - began,
            "at_least": self.sent[after - 1] - began,
            "at_most": ended - before,
            "lost": after - first,
            "open": is_open,
        }
