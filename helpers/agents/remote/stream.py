"""What all continuous flows have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from helpers.agents.remote.ledger import Ledger
from helpers.agents.remote.outcomes import classify, error_text
from helpers.agents.remote.sockets import version_of

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Json
    from helpers.agents.remote.streams import Loop

MARKS = 200  # resets that are told with their times


class Stream:
    """One continuous flow.

    ``turn`` is called when the flow is due: it sends, and gives the seconds to the next turn, or
    None when there is none.
    """

    def __init__(self, loop: Loop, spec: Json) -> None:
        self.loop = loop
        self.id: str = spec["id"]
        self.target: str = spec["target"]
        self.port = int(spec.get("port") or 0)
        self.version = version_of(self.target)
        self.interval = float(spec["interval"])
        self.patience = float(spec["patience"])
        self.spec = spec
        self.ledger = Ledger(self.patience)
        self.resets: list[Json] = []
        self.reset_count = 0
        self.servers: dict[str, int] = {}
        self.own_errors = 0  # this host could not even try: says nothing of the network
        self.halted = False
        self.halted_at: float | None = None  # a gap that is open then ends then

    def turn(self, now: float) -> float | None:
        if self.halted:
            return None
        self.send(now)
        return self.interval

    def send(self, now: float) -> None:
        raise NotImplementedError

    def halt(self, now: float) -> None:
        """Send nothing more; what is on its way may still arrive."""
        if not self.halted:
            self.halted, self.halted_at = True, now

    def reset(self, why: str) -> None:
        self.reset_count += 1
        if len(self.resets) < MARKS:
            self.resets.append({"at": time.monotonic(), "why": why})

    def failed(self, number: int, error: OSError, stage: str) -> None:
        code = error.errno or 0
        if classify(code, self.target) == "inconclusive":
            self.own_errors += 1
        self.ledger.fail(number, error_text(code, stage))

    def report(self, now: float, *, final: bool) -> Json:
        return {
            **self.ledger.report(now if self.halted_at is None else self.halted_at, final=final),
            "resets": self.resets,
            "reset_count": self.reset_count,
            "servers": self.servers,
            "own_errors": self.own_errors,
        }
