"""A fault never outlives its run: whatever ends the run, the journal brings the state back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Change, Exec, File
from helpers.faults.plans import Plan
from helpers.faults.planting import HealError, Journal, heal, inject
from helpers.naming import FAULT_JOURNAL
from helpers.waiting import eventually
from tests.faults.conftest import OWNER, LocalBench

REPOSITORY = Path(__file__).resolve().parents[2]


def silent(_: str) -> None:
    pass


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("first", "second")]
    for path in made:
        path.write_text("as it was")
    return made


def changes(files: list[Path]) -> list[Change]:
    return [File(node="n", path=str(path), text="broken") for path in files]


def test_planted_and_healed(bench: Bench, place: Path, files: list[Path]) -> None:
    journal = Journal.begin(place, "F00", OWNER)
    inject(bench, journal, Plan(changes(files)), within=5)
    assert [path.read_text() for path in files] == ["broken", "broken"]
    heal(bench, journal, within=5, tell=silent)
    assert [path.read_text() for path in files] == ["as it was", "as it was"]
    assert Journal.read(place) is None


def test_the_journal_is_on_disk_before_the_change(
    bench: Bench, place: Path, files: list[Path]
) -> None:
    seen: list[int] = []

    class Spied(File):
        def apply(self, bench: Bench, before: dict[str, str] | None) -> None:
            written = json.loads((place / FAULT_JOURNAL).read_text())
            seen.append(len(written["entries"]))
            super().apply(bench, before)

    plan = Plan([Spied(node="n", path=str(path), text="broken") for path in files])
    inject(bench, Journal.begin(place, "F00", OWNER), plan, within=5)
    assert seen == [1, 2]


def test_later_changes_may_depend_on_earlier_ones(
    bench: Bench, place: Path, files: list[Path]
) -> None:
    def made() -> Iterator[Change]:
        yield File(node="n", path=str(files[0]), text="broken")
        yield File(node="n", path=str(files[1]), text=files[0].read_text() + " too")

    journal = Journal.begin(place, "F00", OWNER)
    inject(bench, journal, Plan(made()), within=5)
    assert files[1].read_text() == "broken too"
    heal(bench, journal, within=5, tell=silent)
    assert files[1].read_text() == "as it was"


def test_a_failure_half_way_is_healed(
    local: LocalBench, bench: Bench, place: Path, files: list[Path]
) -> None:
    journal = Journal.begin(place, "F00", OWNER)
    plan = changes(files)
    inject(bench, journal, Plan(plan[:1]), within=5)
    local.refuse = "second"
    with pytest.raises(FaultError):
        inject(bench, journal, Plan(plan[1:]), within=5)
    local.refuse = ""
    heal(bench, journal, within=5, tell=silent)
    assert [path.read_text() for path in files] == ["as it was", "as it was"]


def test_a_change_that_changes_nothing_is_refused(
    bench: Bench, place: Path, files: list[Path]
) -> None:
    plan = Plan([File(node="n", path=str(files[0]), text="as it was")])
    with pytest.raises(FaultError, match="changed nothing"):
        inject(bench, Journal.begin(place, "F00", OWNER), plan, within=5)


def test_a_fault_that_does_not_show_is_told(bench: Bench, place: Path) -> None:
    plan = Plan(settled=lambda: "not yet: the node sleeps", what="the node breaks")
    with pytest.raises(FaultError, match=r"(?s)the node breaks: not within .*the node sleeps"):
        inject(bench, Journal.begin(place, "F00", OWNER), plan, within=0.2)


def test_one_change_that_resists_keeps_no_other_from_healing(
    local: LocalBench, bench: Bench, place: Path, files: list[Path]
) -> None:
    journal = Journal.begin(place, "F00", OWNER)
    inject(bench, journal, Plan(changes(files)), within=5)
    local.refuse = "second"
    with pytest.raises(HealError, match="second"):
        heal(bench, journal, within=0.3, tell=silent)
    assert files[0].read_text() == "as it was"
    assert Journal.read(place) is not None, "what is not healed must stay known"
    local.refuse = ""
    again = Journal.read(place)
    assert again is not None
    heal(bench, again, within=5, tell=silent)
    assert files[1].read_text() == "as it was"


def test_steps_follow_the_change_and_its_reversal(
    local: LocalBench, bench: Bench, place: Path, files: list[Path]
) -> None:
    step = Exec(node="n", argv=("echo", "restarted"))
    change = File(node="n", path=str(files[0]), text="broken", then=(step,))
    journal = Journal.begin(place, "F00", OWNER)
    inject(bench, journal, Plan([change]), within=5)
    heal(bench, journal, within=5, tell=silent)
    assert local.ran.count(("echo", "restarted")) == 2


def test_two_faults_at_once_are_refused(place: Path) -> None:
    Journal.begin(place, "F01", OWNER)
    with pytest.raises(FaultError, match="Fault F01 is planted in this cluster already"):
        Journal.begin(place, "F02", OWNER)


KILLED = """
import sys, time
from pathlib import Path
from helpers.faults.changes import File
from helpers.faults.planting import Journal, inject
from helpers.faults.plans import Plan
from tests.faults.conftest import OWNER, LocalBench
place, path = map(Path, sys.argv[1:])
plan = Plan([File(node="n", path=str(path), text="broken")])
inject(LocalBench(), Journal.begin(place, "F00", OWNER), plan, within=5)
print("planted", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_planted_is_healed_by_another(
    bench: Bench, place: Path, files: list[Path]
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, place, files[0]],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "planted\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert files[0].read_text() == "broken"
    journal = eventually(lambda: Journal.read(place), lambda it: it is not None, within=5)
    assert journal is not None
    assert journal.fault == "F00"
    heal(bench, journal, within=5, tell=silent)
    assert files[0].read_text() == "as it was"
