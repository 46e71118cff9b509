"""One clock for everything: what the clocks of agents read, in the harness's own time.

Agents time their flows with their host's monotonic clock, which nobody steps. Its offset is
measured over the session as NTP does it (RFC 5905 section 8): the agent's reading lies between
asking and answer, so the middle is off by at most half of the way there and back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from helpers.agents.client import Agent

ROUNDS: Final = 5  # the quickest of them counts


@dataclass(frozen=True, slots=True)
class Reading:
    """An agent's clock against the harness's, once.

    Attributes:
        theirs: what the agent's monotonic clock read, seconds.
        ours: the harness's wall clock at that moment, seconds since the epoch.
        uncertainty: seconds that ``ours`` may be off.
    """

    theirs: float
    ours: float
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Clock:
    """An agent's clock between two readings.

    A guest kernel's clock may run at another rate: what lies between two readings is interpolated.
    """

    first: Reading
    last: Reading

    def at(self, theirs: float) -> float:
        """The harness's wall clock at a reading of the agent's."""
        span = self.last.theirs - self.first.theirs
        rate = (self.last.ours - self.first.ours) / span if span > 1.0 else 1.0
        return self.first.ours + (theirs - self.first.theirs) * rate

    @property
    def uncertainty(self) -> float:
        """Seconds that any converted time may be off."""
        return max(self.first.uncertainty, self.last.uncertainty)

    @property
    def drift(self) -> float:
        """Seconds that the agent's clock went ahead (negative: behind) between the readings."""
        return (self.last.theirs - self.first.theirs) - (self.last.ours - self.first.ours)


def read(agent: Agent, rounds: int = ROUNDS) -> Reading:
    """The agent's clock now.

    Raises:
        Inconclusive: the agent was lost.
    """
    best: Reading | None = None
    for _ in range(rounds):
        asked = time.time()
        theirs = float(agent.call_one("clock")["monotonic"])
        answered = time.time()
        seen = Reading(theirs, (asked + answered) / 2, (answered - asked) / 2)
        if best is None or seen.uncertainty < best.uncertainty:
            best = seen
    assert best is not None
    return best
