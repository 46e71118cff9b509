"""The parts of the upgrade gate: conformance, the upgrade with flows around it, conformance."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from helpers.model import Level
from helpers.requirements import Requirement

ROLLING: Final = ("RES-001", "RES-002")
RESILIENCE: Final = "resilience"  # the group that the upgrade itself decides
CONFORMANCE_WITHIN: Final = 5400.0  # seconds of one conformance part; each test has its own limit
UPGRADE_WITHIN: Final = 1800.0
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True, slots=True)
class GatePart:
    """One pytest session of the gate.

    Attributes:
        name: of its item and folder.
        title: what it does, in words.
        options: of its session.
        changes: the cluster is changed in it, by us or by others.
        within: seconds after which it is ended.
    """

    name: str
    title: str
    options: tuple[str, ...]
    changes: bool = False
    within: float = CONFORMANCE_WITHIN


@dataclass(frozen=True, slots=True)
class Plan:
    """What the gate is asked for.

    Attributes:
        old: release that the cluster runs, as a tag; None: whatever it runs.
        new: release to upgrade to; None: others change the cluster (``watch``).
        back: also the way back to ``old``.
        watch: seconds to watch at most, when others change the cluster.
        chosen: requirements of the conformance parts.
        where: options that name the cluster for every session.
        workers: ``-n`` of the conformance parts.
        spoilt: name of what is wrong with the upgrade (``helpers.resilience.bad_upgrades``).
    """

    old: str | None
    new: str | None
    back: bool
    watch: float | None
    chosen: tuple[str, ...]
    where: tuple[str, ...]
    workers: int
    spoilt: str | None = None

    def parts(self, stop: Path) -> list[GatePart]:
        """The parts in their order.

        Args:
            stop: file that ends watching.
        """
        before = GatePart("before", f"conformance{_of(self.old)}", self._conformance())
        if self.watch is not None:
            watching = (f"--watched-roll={self.watch:g}", f"--watched-until={stop}")
            title = "watching while others change the cluster"
            change = self._change("watch", title, watching, self.watch + UPGRADE_WITHIN)
            return [before, change, GatePart("after", "conformance afterwards", before.options)]
        spoilt = (f"--bad-upgrade={self.spoilt}",) if self.spoilt else ()
        forth = (f"--calico-roll={self.new}", *spoilt)
        found = [
            before,
            self._change("upgrade", f"upgrade{_of(self.old)} to {self.new}", forth),
            GatePart("after", f"conformance{_of(self.new)}", before.options),
        ]
        if self.back:
            title = f"back from {self.new} to {self.old}"
            found += [
                self._change("back", title, (f"--calico-roll={self.old}",)),
                GatePart("after-back", f"conformance{_of(self.old)} again", before.options),
            ]
        return found

    def _conformance(self) -> tuple[str, ...]:
        return (*self.where, f"-n{self.workers}", "--requirements", ",".join(self.chosen))

    def _change(
        self, name: str, title: str, roll: Sequence[str], within: float = UPGRADE_WITHIN
    ) -> GatePart:
        asked = ("-n0", "--requirements", ",".join(ROLLING), "--disruptive=long")
        return GatePart(name, title, (*self.where, *asked, *roll), changes=True, within=within)


def _of(version: str | None) -> str:
    return f" of {version}" if version else ""


def chosen(
    known: Iterable[Requirement], levels: Sequence[Level], named: Sequence[str]
) -> tuple[str, ...]:
    """Requirements of the conformance parts: all that were asked for but resilience's."""
    return tuple(
        requirement.id
        for requirement in known
        if requirement.group != RESILIENCE
        and requirement.level in levels
        and (not named or requirement.id in named)
    )


@contextmanager
def stopped_by(stop: Path) -> Iterator[None]:
    """Inside of the block signals and the Enter key end watching, and nothing else."""
    stop.parent.mkdir(parents=True, exist_ok=True)

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.touch()

    def read_key() -> None:
        if sys.stdin.readline():  # empty: the end of a closed terminal is nobody's key
            stop.touch()

    before = {number: signal.signal(number, end) for number in STOP_SIGNALS}
    if sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=read_key, daemon=True).start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command(part: GatePart) -> str:
    """The part alone, as it can be typed."""
    return shlex.join(["pytest", "suites", *part.options])
