"""The answer of an upgrade gate: what is a no, what is not a yes, and what the report says."""

from __future__ import annotations

import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clusters.spec import load_profile
from helpers.gate_parts import Plan, chosen, stopped_by
from helpers.model import Level
from helpers.requirements import requirements
from helpers.resilience import rolls
from reports.bundle import bundle
from reports.exit_codes import Ending, ExitCode
from reports.gate import gathered, lines
from reports.html.render import render
from reports.ledger import Ledger
from reports.model import RESULTS_FILE, Results, ResultsError, RunInfo, read, schema
from tests.reports import sample

REPOSITORY = Path(__file__).resolve().parents[2]
GREEN: Mapping[tuple[str, str], tuple[str, str]] = {}
ASKED = ("before", "upgrade", "after")
Changed = Mapping[tuple[str, str], tuple[str, str]]


def conformance(folder: Path, calico: str, changed: Changed = GREEN) -> Results:
    """A whole run whose cluster ran a release."""
    folder.mkdir(parents=True)
    made = sample.run(folder, changed)
    assert made.cluster is not None
    cluster = made.cluster.model_copy(update={"calico": calico})
    made = made.model_copy(update={"cluster": cluster})
    made.write(folder / RESULTS_FILE)
    return made


def upgrade(folder: Path, changed: Changed = GREEN, *, complete: bool = True) -> Results:
    """What the part with flows around the upgrade decides."""
    folder.mkdir(parents=True)
    known = requirements()
    ledger = Ledger(
        run_id=folder.name,
        directory=folder,
        root=REPOSITORY,
        started=datetime(2026, 11, 24, 9, 31, tzinfo=UTC),
        argv=("suites", "-n0", "--disruptive=long", "--calico-roll=v3.31.0"),
        profile=tuple(Level),
        requirements=known,
    )
    for name in ("RES-001", "RES-002"):
        for family in ("ipv4", "ipv6"):
            verdict, reason = changed.get((name, family), ("pass", ""))
            place = folder / f"{name}-{family}"
            place.mkdir()
            files = {"timeline.json": sample.timeline()}
            if (name, family) == ("RES-001", "ipv4"):
                files["changes.json"] = sample.CHANGES
            for file, figure in files.items():
                (place / file).write_text(json.dumps(figure))
            record = {
                "id": name,
                "family": family,
                "verdict": verdict,
                "reason": reason,
                "seconds": 80.0,
                "waits": [],
                "evidence": [f"{place.name}/{file}" for file in files],
                "losses": [],
                "noCluster": False,
                "cluster": None,
            }
            test = known[name].test_prefix.rstrip("_")
            ledger.add(f"suites/resilience/test_calico_restarts.py::{test}_x[{family}]", record)
    results = ledger.results(Ending(), complete=complete)
    results.write(folder / RESULTS_FILE)
    return results


class Made:
    """A gate whose parts ended somehow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[dict[str, Any]] = []

    def part(self, name: str, results: Results | None, code: int | None = None) -> None:
        exit_code = results.summary.exit_code if results and code is None else code
        self.records.append(
            {
                "name": name,
                "title": f"the {name}",
                "changes": name in ("upgrade", "back"),
                "command": f"pytest suites # {name}",
                "folder": str(self.folder / name / "run") if results else None,
                "code": exit_code,
                "seconds": 61.5,
            }
        )

    def gathered(self, ending: Ending | None = None) -> tuple[Results, Results | None]:
        run = RunInfo(
            id="gate",
            started=datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
            seconds=300.0,
            argv=("suites", "--upgrade-to", "v3.31.0"),
            profile=tuple(Level),
            complete=False,
        )
        return gathered(run, self.folder, self.records, ASKED, ending or Ending())


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def whole(
    made: Made, before: Changed = GREEN, during: Changed = GREEN, after: Changed = GREEN
) -> tuple[Results, Results | None]:
    made.part("before", conformance(made.folder / "before" / "run", "v3.30.1", before))
    made.part("upgrade", upgrade(made.folder / "upgrade" / "run", during))
    made.part("after", conformance(made.folder / "after" / "run", "v3.31.0", after))
    return made.gathered()


def answer(results: Results) -> tuple[int, str]:
    return results.summary.exit_code, results.summary.exit_reason


def test_a_gate_whose_parts_are_all_good_is_a_yes(made: Made) -> None:
    results, before = whole(made)
    assert answer(results)[0] == ExitCode.OK
    assert results.gate is not None
    assert (results.gate.ships, results.gate.old, results.gate.new) == (True, "v3.30.1", "v3.31.0")
    assert before is not None
    assert results.run.complete
    assert list(lines(results.gate, 0, "x"))[-1].startswith("YES (0)")


@pytest.mark.parametrize(
    ("parts", "code", "said"),
    [
        (
            {"during": {("RES-001", "ipv6"): ("fail", "a gap of 7.20 s, allowed are 5 s")}},
            ExitCode.FAILED,
            "RES-001 [ipv6]",
        ),
        ({"after": {("SVC-007", "ipv6"): ("fail", "no answer")}}, ExitCode.FAILED, "SVC-007"),
        (
            {"during": {("RES-002", "ipv6"): ("inconclusive", "2 flows saw too little")}},
            ExitCode.UNDECIDED,
            "RES-002 [ipv6] is inconclusive",
        ),
        (
            {"during": {("RES-001", "ipv4"): ("inconclusive", "an agent was lost")}},
            ExitCode.UNDECIDED,
            "RES-001 [ipv4]",
        ),
        (
            {"before": {("SVC-007", "ipv6"): ("inconclusive", "an agent was lost")}},
            ExitCode.UNDECIDED,
            "SVC-007 [ipv6]",
        ),
        (
            {"after": {("SVC-007", "ipv6"): ("skipped", "no such feature any more")}},
            ExitCode.UNDECIDED,
            "SVC-007 [ipv6]: pass -> skipped",
        ),
    ],
)
def test_one_bad_verdict_is_not_a_yes(
    parts: dict[str, Changed], code: ExitCode, said: str, made: Made
) -> None:
    results, _ = whole(made, **parts)
    assert answer(results)[0] == code
    assert said in answer(results)[1]
    assert results.gate is not None
    assert not results.gate.ships


def test_an_informational_requirement_that_got_worse_is_a_no(made: Made) -> None:
    told = [r for r in requirements().values() if r.level is Level.INFORMATIONAL and not r.pair]
    name = told[0].id
    results, _ = whole(made, after={(name, "ipv6"): ("fail", "changed")})
    assert answer(results)[0] == ExitCode.FAILED
    assert f"{name} [ipv6]: pass -> fail" in answer(results)[1]


def test_what_failed_before_and_is_mended_does_not_speak_against_it(made: Made) -> None:
    results, _ = whole(made, before={("SVC-007", "ipv6"): ("fail", "no answer")})
    assert answer(results)[0] == ExitCode.OK


def test_what_failed_before_and_still_fails_is_no_yes(made: Made) -> None:
    red = {("SVC-007", "ipv6"): ("fail", "no answer")}
    results, _ = whole(made, before=red, after=red)
    assert answer(results)[0] == ExitCode.FAILED
    assert results.gate is not None
    assert results.gate.regressions == ()


def test_a_part_that_did_not_run_is_no_yes(made: Made) -> None:
    made.part("before", conformance(made.folder / "before" / "run", "v3.30.1"))
    made.part("upgrade", upgrade(made.folder / "upgrade" / "run"))
    assert answer(made.gathered()[0]) == (3, "not decided: the part after did not run")


def test_a_part_without_verdicts_is_no_yes(made: Made) -> None:
    made.part("before", conformance(made.folder / "before" / "run", "v3.30.1"))
    made.part("upgrade", None, code=-9)
    results, _ = made.gathered()
    assert answer(results)[0] == ExitCode.UNDECIDED
    assert "brought no verdicts" in answer(results)[1]


def test_a_part_that_was_cut_short_is_no_yes(made: Made) -> None:
    made.part("before", conformance(made.folder / "before" / "run", "v3.30.1"))
    made.part("upgrade", upgrade(made.folder / "upgrade" / "run", complete=False), code=0)
    made.part("after", conformance(made.folder / "after" / "run", "v3.31.0"))
    results, _ = made.gathered()
    assert answer(results)[0] == ExitCode.UNDECIDED
    assert not results.run.complete


def test_an_interrupted_gate_and_one_without_cluster_have_their_codes(made: Made) -> None:
    made.part("before", conformance(made.folder / "before" / "run", "v3.30.1"))
    stopped = made.gathered(Ending(stopped=(ExitCode.USAGE, "interrupted")))[0]
    assert answer(stopped) == (2, "interrupted")
    gone = made.gathered(Ending(stopped=(ExitCode.NO_CLUSTER, "stopped: no cluster")))[0]
    assert answer(gone)[0] == ExitCode.NO_CLUSTER


def test_a_verdict_of_the_upgrade_is_repeated_as_an_upgrade(made: Made) -> None:
    results, _ = whole(made)
    (found,) = [r for r in results.requirements if r.key == ("RES-001", "ipv6")]
    assert found.repeat.endswith("-n0 --disruptive=long --calico-roll=v3.31.0")


def test_results_of_a_gate_are_read_again_and_drawn(made: Made) -> None:
    bad = {("RES-001", "ipv6"): ("fail", "a gap of 7.20 s, allowed are 5 s")}
    worse = {("SVC-007", "ipv6"): ("fail", "no answer from fd00::1")}
    results, before = whole(made, during=bad, after=worse)
    results.write(made.folder / RESULTS_FILE)
    again = read(made.folder)
    assert again == results
    page = render(again, made.folder, before)
    for text in ("Must not ship", "Upgrade gate", "Worse than before", "a gap of 7.20 s",
                 "Calico v3.30.1 to v3.31.0", "a changed default"):  # fmt: skip
        assert text in page, text
    assert "upgrade/run/RES-001-ipv6/timeline.json" in page
    committed = (REPOSITORY / "reports" / "results.schema.json").read_text()
    assert committed == schema()


def test_a_finding_of_the_upgrade_is_packed_with_the_cluster_that_it_began_with(
    made: Made, tmp_path: Path
) -> None:
    results, _ = whole(made, during={("RES-001", "ipv6"): ("fail", "a gap of 7.20 s")})
    assert results.cluster is not None
    spec = load_profile("native", {"calico": "3.31.0", "calico_upgrades": "3.30.1"})
    cluster = results.cluster.model_copy(update={"declared": spec.model_dump(mode="json")})
    results = results.model_copy(update={"cluster": cluster})
    path = bundle(results, made.folder, "RES-001-ipv6", tmp_path / "packed")
    with tarfile.open(path) as archive:
        files = {m.name.partition("/")[2]: archive.extractfile(m) for m in archive.getmembers()}
        data = {name: file.read().decode() for name, file in files.items() if file is not None}
    profile = tmp_path / "profile.yaml"
    profile.write_text(data["profile.yaml"])
    again = load_profile(str(profile))
    assert (str(again.calico), [str(v) for v in again.calico_upgrades]) == ("3.30.1", ["3.31.0"])
    assert "--profile profile.yaml --disruptive=long --calico-roll=v3.31.0" in data["README.txt"]
    assert "a gap of 7.20 s" in data["README.txt"]
    assert "evidence/upgrade/run/RES-001-ipv6/timeline.json" in data
    built = json.loads(data["versions.json"])
    assert built["components"]["calico-v3.30.1"]["module_hash"].startswith("h1:")
    assert built["missing"] == []
    assert "RES-001/flush" in {row["id"] for row in json.loads(data["faults.json"])}


def test_a_bundle_of_what_was_not_decided_is_refused(made: Made, tmp_path: Path) -> None:
    results, _ = whole(made)
    with pytest.raises(ResultsError, match="no verdict about XXX-001: it has CFG-001"):
        bundle(results, made.folder, "XXX-001", tmp_path)


# -- the parts ------------------------------------------------------------------------------------


def plan(**more: Any) -> Plan:
    given: dict[str, Any] = {
        "old": "v3.30.1",
        "new": "v3.31.0",
        "back": False,
        "watch": None,
        "chosen": ("SVC-007",),
        "where": ("--reuse-cluster", "dsc-x"),
        "workers": 4,
    }
    return Plan(**{**given, **more})


def test_parts_of_an_upgrade_and_of_the_way_back(tmp_path: Path) -> None:
    parts = plan(back=True).parts(tmp_path / "stop")
    assert [p.name for p in parts] == ["before", "upgrade", "after", "back", "after-back"]
    assert [p.changes for p in parts] == [False, True, False, True, False]
    assert "--calico-roll=v3.31.0" in parts[1].options
    assert "--calico-roll=v3.30.1" in parts[3].options
    assert parts[0].options == parts[2].options == parts[4].options
    assert all(part.options[:2] == ("--reuse-cluster", "dsc-x") for part in parts)


def test_watching_changes_nothing_itself(tmp_path: Path) -> None:
    parts = plan(old=None, new=None, watch=90.0).parts(tmp_path / "stop")
    assert [p.name for p in parts] == ["before", "watch", "after"]
    assert f"--watched-until={tmp_path / 'stop'}" in parts[1].options
    assert not any("--calico-roll" in o or "--allow" in o for p in parts for o in p.options)


def test_what_the_upgrade_decides_is_not_asked_of_the_parts_around_it() -> None:
    every = chosen(requirements().values(), tuple(Level), ())
    assert not any(name.startswith("RES-") for name in every)
    assert {r.id for r in requirements().values() if r.group != "resilience"} == set(every)
    assert chosen(requirements().values(), tuple(Level), ("SVC-007", "RES-001")) == ("SVC-007",)
    core = chosen(requirements().values(), (Level.CORE,), ())
    assert set(core) < set(every)


def test_a_signal_ends_watching_and_not_the_gate(tmp_path: Path) -> None:
    stop = tmp_path / "run" / "stop"
    before = signal.getsignal(signal.SIGTERM)
    with stopped_by(stop):
        assert not stop.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_watching_lasts_until_it_is_ended_or_its_time_is_over(tmp_path: Path) -> None:
    kube: Any = None  # it is not asked for anything
    stop = tmp_path / "stop"
    timer = threading.Timer(0.3, stop.touch)
    timer.start()
    began = time.monotonic()
    rolls.watched(60.0, stop).begin(kube)
    assert 0.2 < time.monotonic() - began < 30.0
    rolls.watched(0.2, tmp_path / "never").begin(kube)
    timer.join()
