"""Planting and healing, so that no fault outlives its run.

The journal is on disk, in the cluster's own folder, before anything is changed: each change with
the state it found. ``heal`` works from the journal alone, in whichever process notices that the one
that planted is gone. A fault counts as healed when every state is what it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from helpers.faults.bench import Bench, CommandError, FaultError
from helpers.faults.changes import Change
from helpers.faults.plans import Plan
from helpers.kube import KubeError
from helpers.naming import FAULT_JOURNAL
from helpers.waiting import NotSettled, eventually

# A reversal may meet an API server that still restarts, or a node that is busy.
PASSING: Final = (KubeError, CommandError, LookupError)
Tell = Callable[[str], None]


class HealError(FaultError):
    """A cluster could not be brought back to the state before the fault; the journal stays."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change that was intended, and the state it found."""

    change: Change
    before: Any

    def to_json(self) -> dict[str, Any]:
        return {"change": self.change.to_json(), "before": self.before}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        return cls(Change.from_json(data["change"]), data["before"])


@dataclass(slots=True)
class Journal:
    """What is planted in one cluster now: a file in the cluster's folder, gone when healed.

    Attributes:
        owner: the process that planted, as plain data; whoever reads it judges if it lives.
    """

    folder: Path
    fault: str
    owner: Mapping[str, Any]
    entries: list[Entry]

    @property
    def path(self) -> Path:
        return self.folder / FAULT_JOURNAL

    @classmethod
    def begin(cls, folder: Path, fault: str, owner: Mapping[str, Any]) -> Journal:
        """Start a journal.

        Raises:
            FaultError: another fault is planted in this cluster.
        """
        other = cls.read(folder)
        if other is not None:
            raise FaultError(
                f"Fault {other.fault} is planted in this cluster already ({other.path}): heal it "
                "with `python -m clusters reap`, or wait for the run that planted it."
            )
        made = cls(folder, fault, dict(owner), [])
        made.write()
        return made

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """The journal of a cluster; None when nothing is planted."""
        try:
            data = json.loads((folder / FAULT_JOURNAL).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        entries = [Entry.from_json(entry) for entry in data["entries"]]
        return cls(folder, data["fault"], data["owner"], entries)

    def intend(self, change: Change, before: Any) -> None:
        """Write down a change before it is made."""
        self.entries.append(Entry(change, before))
        self.write()

    def write(self) -> None:
        draft = self.path.with_name(f".{FAULT_JOURNAL}.{os.getpid()}")
        data = {
            "fault": self.fault,
            "owner": dict(self.owner),
            "entries": [entry.to_json() for entry in self.entries],
        }
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(data, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self.path)

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


def inject(
    bench: Bench, journal: Journal, plan: Plan, *, within: float, fault: str | None = None
) -> None:
    """Make the changes of a plan and wait until the fault shows.

    Args:
        fault: which one it is, where the journal is of several.
        within: seconds that the fault may take to show.

    Raises:
        FaultError: a change could not be made, changed nothing, or the fault did not show.
    """
    for step in plan.steps:
        step.run(bench)
    for planned in plan.changes:
        change = planned.of(fault or journal.fault)
        if any(entry.change == change for entry in journal.entries):
            continue  # another fault of the round has made it, and both need it
        before = change.observe(bench)
        journal.intend(change, before)
        change.apply(bench, before)
        if change.observe(bench) == before:
            raise FaultError(f"{change.where}: planting {fault or journal.fault} changed nothing")
        for step in change.then:
            step.run(bench)
    if plan.settled is not None:
        _await(plan.settled, within, plan.what)


def heal(bench: Bench, journal: Journal, *, within: float, tell: Tell) -> None:
    """Revert every change in the journal, see that the states are those before, close it.

    One change that resists does not keep the others from being reverted.

    Raises:
        HealError: what is not as it was; the journal stays, so that it can be tried again.
    """
    failures = []
    for entry in reversed(journal.entries):
        try:
            _revert(bench, entry, within)
        except (NotSettled, FaultError, *PASSING) as error:
            failures.append(f"{entry.change.where}: {error}")
            tell(f"healing {journal.fault}: {failures[-1]}")
    if failures:
        raise HealError(
            f"{journal.fault} is not healed; `python -m clusters reap` tries again "
            f"(journal: {journal.path}): " + "; ".join(failures)
        )
    journal.close()


def _revert(bench: Bench, entry: Entry, within: float) -> None:
    change, before = entry.change, entry.before

    def attempt() -> Any:
        if change.observe(bench) != before:
            change.revert(bench, before)
        return change.observe(bench)

    eventually(
        attempt,
        lambda state: state == before,
        within=within,
        retry_on=PASSING,
        what=f"{change.where} is as before",
    )
    for step in change.then:
        step.run(bench)
    eventually(
        lambda: change.observe(bench),
        lambda state: state == before,
        within=within,
        retry_on=PASSING,
        what=f"{change.where} stays as before",
    )


def await_healed(plan: Plan, *, within: float) -> None:
    """Wait for the plan's own sign of health, if it has one."""
    if plan.healed is not None:
        _await(plan.healed, within, "the fault shows no more")


def _await(look: Callable[[], bool | str], within: float, what: str) -> None:
    try:
        eventually(look, lambda seen: seen is True, within=within, retry_on=PASSING, what=what)
    except NotSettled as error:
        raise FaultError(str(error)) from error
