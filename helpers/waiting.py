"""Waiting for states. The only module of the harness that sleeps.

``eventually`` waits until an observation is good and returns it; ``consistently`` demands that an
observation stays good. Both keep a change log, so that a failure tells the story of the wait and
not only its end, and both record their head-room (``drain_waits``), so that a report shows a
cluster getting slower before it flakes.

What they never do: retry an exception that was not listed, lengthen a deadline silently, or take
"could not look" for "looks bad".
"""

from __future__ import annotations

import reprlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

State = TypeVar("State")

# After the deadline a wait goes on looking for a short while, to say "slow" or "broken".
TAIL_SHARE: Final = 0.5
TAIL_SECONDS: Final = 5.0
# More changes than this are folded in the message: a flapping state must not hide the ends.
TIMELINE_SHOWN: Final = 12


class NotSettled(AssertionError):  # noqa: N818  # reads as a state, like Blocked
    """A state that was waited for did not come, or did not stay.

    Being an AssertionError it is a fail: the cluster was observed, and it is not as promised.

    Attributes:
        what: what was awaited.
        timeline: ``(seconds, description)`` of each change of state, in order.
        late_by: seconds after the deadline at which the state came after all; None: never seen.
        last: the last observation, None when there was none.
    """

    def __init__(
        self,
        message: str,
        *,
        what: str,
        timeline: tuple[tuple[float, str], ...],
        late_by: float | None = None,
        last: object = None,
    ) -> None:
        super().__init__(message)
        self.what = what
        self.timeline = timeline
        self.late_by = late_by
        self.last = last


class Sleeper(Protocol):
    """Clock and sleep in one, so that tests of waits take no time."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class _RealTime:
    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


REAL_TIME: Final[Sleeper] = _RealTime()


@dataclass(frozen=True, slots=True)
class WaitRecord:
    """One wait that happened: ``waited`` of ``within`` seconds, in ``probes`` observations.

    ``settled`` is False when the wait failed. ``waited / within`` over 0.5 deserves a look.
    """

    what: str
    waited: float
    within: float
    probes: int
    settled: bool = True


_records: list[WaitRecord] = []
_records_lock = threading.Lock()


def drain_waits() -> list[WaitRecord]:
    """Waits of this process that ended since the last call, in order of their end."""
    with _records_lock:
        drained = list(_records)
        _records.clear()
    return drained


class Deadline:
    """A point in time, passed down instead of seconds that restart in each layer."""

    __slots__ = ("_at", "_sleeper", "seconds")

    def __init__(self, seconds: float, sleeper: Sleeper = REAL_TIME) -> None:
        self.seconds = seconds
        self._sleeper = sleeper
        self._at = sleeper.now() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - self._sleeper.now())

    @property
    def expired(self) -> bool:
        return self.remaining <= 0.0


def eventually(
    observe: Callable[[], State],
    ready: Callable[[State], bool],
    *,
    within: float,
    every: float = 0.5,
    in_a_row: int = 1,
    fatal: Callable[[State], str | bool | None] | None = None,
    describe: Callable[[State], str] | None = None,
    what: str | None = None,
    retry_on: tuple[type[Exception], ...] = (),
    sleeper: Sleeper = REAL_TIME,
) -> State:
    """Observe until ``ready`` holds ``in_a_row`` times; return the last observation.

    The first observation is immediate, the last one begins at the deadline. A slow ``observe``
    counts toward the deadline, but one that began in time and is good counts however late it ends.

    Args:
        within: seconds until the wait fails.
        every: seconds between the beginnings of two observations.
        fatal: a state that can never become ready: True or a sentence ends the wait at once.
        describe: one line for a state; equal lines are the same state in the change log.
        what: what is awaited, for message and report; default: the name of ``ready``.
        retry_on: exceptions of ``observe`` that mean "not yet"; all others escape.

    Raises:
        NotSettled: the deadline passed, or ``fatal`` held.
        Exception: what ``observe`` raised and ``retry_on`` does not list.
    """
    look = _Look(observe, ready, describe, retry_on, sleeper, what or _name(ready))
    deadline = Deadline(within, sleeper)
    while True:
        last_chance = deadline.expired
        began = sleeper.now()
        if look.once() >= in_a_row:
            look.record(within, settled=True)
            return look.seen[-1]
        reason = look.fatal_reason(fatal)
        if reason:
            look.record(within, settled=False)
            message = f"{look.what}: cannot happen any more: {reason}\n  {look.story()}"
            raise look.failure(message)
        if last_chance:
            break
        pause = every - (sleeper.now() - began)
        sleeper.sleep(max(0.0, min(pause, deadline.remaining)))
    look.record(within, settled=False)
    head = f"{look.what}: not within {within:g} s"
    if in_a_row > 1:
        head += f", {in_a_row} times in a row (best now {look.row})"
    late_by = _tail(look, within, every, in_a_row)
    end = (
        f"after the deadline: ready {late_by:.1f} s late (slow, or the time limit is too short)"
        if late_by is not None
        else f"after the deadline: still not ready at +{look.elapsed:.1f} s (not merely slow)"
    )
    raise look.failure(f"{head}; {look.story()}\n  {end}", late_by)


def consistently(
    observe: Callable[[], State],
    holds: Callable[[State], bool],
    *,
    during: float,
    every: float = 0.5,
    describe: Callable[[State], str] | None = None,
    what: str | None = None,
    sleeper: Sleeper = REAL_TIME,
) -> State:
    """Observe for ``during`` seconds and demand that ``holds`` is true each time.

    The first observation is immediate, the last one begins when the time is over. No exception is
    retried: for a promise that something stays true, not having looked is no proof.

    Raises:
        NotSettled: ``holds`` was false once; the message says when.
        Exception: what ``observe`` raised.
    """
    look = _Look(observe, holds, describe, (), sleeper, what or _name(holds))
    deadline = Deadline(during, sleeper)
    while True:
        last = deadline.expired
        began = sleeper.now()
        if not look.once():
            look.record(during, settled=False)
            at = began - look.started
            raise look.failure(
                f"{look.what}: held for {at:.1f} s of {during:g} s, then not; {look.story()}"
            )
        if last:
            look.record(during, settled=True)
            return look.seen[-1]
        pause = every - (sleeper.now() - began)
        sleeper.sleep(max(0.0, min(pause, deadline.remaining)))


def lastingly(
    observe: Callable[[], State],
    holds: Callable[[State], bool],
    *,
    within: float,
    during: float,
    every: float = 0.5,
    describe: Callable[[State], str] | None = None,
    what: str | None = None,
    sleeper: Sleeper = REAL_TIME,
) -> State:
    """Wait until ``holds``, then demand that it stays so for ``during`` seconds.

    For a state that is reached in steps which are not seen one by one, e.g. the rules of a
    kube-proxy that programs part after part. What must not be needs its positive control in the
    same observation, as everywhere.

    Raises:
        NotSettled: it did not hold in time, or it did not stay so.
        Exception: what ``observe`` raised.
    """
    what = what or _name(holds)
    eventually(
        observe, holds, within=within, every=every, describe=describe, what=what, sleeper=sleeper
    )
    return consistently(
        observe, holds, during=during, every=every, describe=describe, what=what, sleeper=sleeper
    )


@dataclass(slots=True)
class _Look(Generic[State]):
    """One wait: how to look, and what has been seen."""

    observe: Callable[[], State]
    good: Callable[[State], bool]
    describe: Callable[[State], str] | None
    retry_on: tuple[type[Exception], ...]
    sleeper: Sleeper
    what: str
    started: float = field(init=False)
    seen: list[State] = field(default_factory=list)  # at most one: the last
    changes: list[tuple[float, str]] = field(default_factory=list)
    probes: int = 0
    row: int = 0

    def __post_init__(self) -> None:
        self.started = self.sleeper.now()

    @property
    def elapsed(self) -> float:
        return self.sleeper.now() - self.started

    def once(self) -> int:
        """Look once; how many good looks in a row there are now (0: this one was bad)."""
        at = self.elapsed
        self.probes += 1
        try:
            state = self.observe()
        except self.retry_on as error:
            # A state from before the error must not pass for the present one.
            self.seen = []
            self.row = 0
            self._note(at, f"{type(error).__name__}: {error}")
            return 0
        self.seen = [state]
        self.row = self.row + 1 if self.good(state) else 0
        self._note(at, self.describe(state) if self.describe else _short(state))
        return self.row

    def _note(self, at: float, text: str) -> None:
        if not self.changes or self.changes[-1][1] != text:
            self.changes.append((at, text))

    def fatal_reason(self, fatal: Callable[[State], str | bool | None] | None) -> str | None:
        verdict = fatal(self.seen[-1]) if fatal and self.seen else None
        if verdict is True:
            return self.changes[-1][1]
        return verdict or None

    def story(self) -> str:
        shown = [f"+{at:.1f}s {text}" for at, text in self.changes]
        if len(shown) > TIMELINE_SHOWN:
            half = TIMELINE_SHOWN // 2
            folded = f"... {len(shown) - 2 * half} more changes ..."
            shown = [*shown[:half], folded, *shown[-half:]]
        plural = "probe" if self.probes == 1 else "probes"
        return f"{self.probes} {plural} in {self.elapsed:.1f} s\n  {' | '.join(shown)}"

    def record(self, within: float, *, settled: bool) -> None:
        with _records_lock:
            _records.append(WaitRecord(self.what, self.elapsed, within, self.probes, settled))

    def failure(self, message: str, late_by: float | None = None) -> NotSettled:
        return NotSettled(
            message,
            what=self.what,
            timeline=tuple(self.changes),
            late_by=late_by,
            last=self.seen[-1] if self.seen else None,
        )


def _tail(look: _Look[State], within: float, every: float, in_a_row: int) -> float | None:
    """Keep looking for a bounded time; seconds past the deadline at which the state was ready.

    The wait has failed already: whatever the cluster does now only explains the failure.
    """
    over = Deadline(min(within * TAIL_SHARE, TAIL_SECONDS), look.sleeper)
    while not over.expired:
        look.sleeper.sleep(min(every, over.remaining))
        try:
            if look.once() >= in_a_row:
                return look.elapsed - within
        except Exception as error:  # the failure to report is the wait's own
            look._note(look.elapsed, f"{type(error).__name__}: {error}")  # noqa: SLF001
            return None
    return None


def _short(state: object) -> str:
    if isinstance(state, str):
        return state[:300]
    shortener = reprlib.Repr()
    shortener.maxother = shortener.maxstring = 160
    shortener.maxlist = shortener.maxdict = shortener.maxtuple = shortener.maxset = 8
    return shortener.repr(state)


def _name(predicate: Callable[..., bool]) -> str:
    name = getattr(predicate, "__name__", "") or type(predicate).__name__
    return "state" if name == "<lambda>" else name.replace("_", " ").strip()
