"""The order of proving: planted, decided, healed, decided again, whatever goes wrong between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers import prove_session
from helpers.faults import plans
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import File
from helpers.faults.comparison import Seen
from helpers.faults.expectations import Expectation
from helpers.faults.grouping import rounds
from helpers.faults.plans import Plan
from helpers.faults.planting import Journal
from helpers.model import Verdict
from helpers.prove import CannotPlantError, Finding, Prover
from helpers.prove_campaign import Campaign
from helpers.prove_session import Session
from tests.faults.conftest import LocalBench

ROW = Expectation(id="F99", title="t", must=("CONN-002 ipv6",), heal=2.0)  # type: ignore[arg-type]
KEY, OTHER = ("CONN-002", "ipv6"), ("CFG-009", "ipv4")
SAMPLE = ("CFG-009",)


@dataclass
class Told:
    """What the prover did, in order."""

    events: list[str] = field(default_factory=list)


class QuietProver(Prover):
    """Sessions are answered by the test; the cluster is healthy when it is asked."""

    def __init__(self, *args: Any, told: Told, answer: Callable[[str], Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told = told
        self.answer = answer

    def why_not(self, row: Expectation) -> str | None:
        return None

    def await_healthy(self) -> None:
        self.told.events.append("healthy")

    def decide(self, name: str, chosen: Iterable[str], planted: str | None = None) -> Session:
        self.told.events.append(name)
        return Session(self.folder, self.answer(name))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the fault breaks."""
    path = tmp_path / "file"
    path.write_text("as it was")
    monkeypatch.setitem(
        plans._planters, "F99", lambda _: Plan([File(node="n", path=str(path), text="broken")])
    )
    return path


def prover(place: Path, bench: Bench, told: Told, answer: Callable[[str], Any]) -> QuietProver:
    bench.cluster = None  # type: ignore[assignment]  # nothing of it is asked
    return QuietProver(bench, place, place, place, 2, told.events.append, told=told, answer=answer)


def alone(made: Prover) -> Finding:
    """The finding about the one fault."""
    found = made.prove([ROW], SAMPLE)
    made.green_again([found])
    return found


def red_while(path: Path) -> Callable[[str], dict[Any, Seen]]:
    """A requirement that is red exactly while the file is broken."""
    red = Seen(Verdict.FAIL, "lost")
    return lambda _: {KEY: red if path.read_text() == "broken" else Seen(Verdict.PASS)}


def test_planted_decided_healed_and_decided_again(
    place: Path, bench: Bench, told: Told, broken: Path
) -> None:
    found = alone(prover(place, bench, told, red_while(broken)))
    assert found.proved
    assert told.events == ["F99/planted", "healthy", "F99/healed"]
    assert found.comparison is not None
    assert found.comparison.failed == {KEY}


def test_what_is_not_as_expected_is_decided_again(
    place: Path, bench: Bench, told: Told, broken: Path
) -> None:
    answers = {
        "F99/planted": {KEY: Seen(Verdict.PASS), OTHER: Seen(Verdict.FAIL, "a hiccup")},
        "F99/planted-again": {KEY: Seen(Verdict.FAIL, "lost"), OTHER: Seen(Verdict.PASS)},
        "F99/healed": {KEY: Seen(Verdict.FAIL, "slow"), OTHER: Seen(Verdict.PASS)},
        "F99/healed-again": {KEY: Seen(Verdict.PASS)},
    }
    found = alone(prover(place, bench, told, lambda name: answers[name]))
    assert found.proved
    assert set(found.unsteady) == {KEY, OTHER}
    assert told.events == [*list(answers)[:2], "healthy", *list(answers)[2:]]


def test_what_repeats_is_no_hiccup(place: Path, bench: Bench, told: Told, broken: Path) -> None:
    red = Seen(Verdict.FAIL, "lost")
    answer = {KEY: red, OTHER: red}
    found = alone(prover(place, bench, told, lambda name: answer if "planted" in name else {}))
    assert found.comparison is not None
    assert found.comparison.surplus == {OTHER}
    assert not found.proved
    assert not found.unsteady


def test_a_requirement_that_stays_red_is_told(
    place: Path, bench: Bench, told: Told, broken: Path
) -> None:
    found = alone(prover(place, bench, told, lambda _: {KEY: Seen(Verdict.FAIL, "lost")}))
    assert found.still_red == (KEY,)
    assert not found.proved
    assert found.reasons["CONN-002 [ipv6] after healing"] == "lost"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_session_the_fault_is_healed(
    place: Path, bench: Bench, told: Told, broken: Path, error: type[BaseException]
) -> None:
    def answer(_: str) -> Any:
        assert broken.read_text() == "broken"
        raise error

    with pytest.raises(error):
        alone(prover(place, bench, told, answer))
    assert broken.read_text() == "as it was"
    assert Journal.read(place) is None


def test_a_session_without_verdicts_is_no_proof(
    place: Path, bench: Bench, told: Told, broken: Path
) -> None:
    def answer(_: str) -> Any:
        raise FaultError("the session brought no verdicts")

    found = alone(prover(place, bench, told, answer))
    assert not found.proved
    assert found.healed
    assert "brought no verdicts" in found.error
    assert broken.read_text() == "as it was"


def test_a_fault_that_does_not_heal_is_told(
    place: Path, local: LocalBench, bench: Bench, told: Told, broken: Path
) -> None:
    def answer(name: str) -> Any:
        local.refuse = str(broken)
        return red_while(broken)(name)

    found = alone(prover(place, bench, told, answer))
    assert not found.healed
    assert not found.proved
    assert "reap" in found.error
    assert Journal.read(place) is not None


def test_what_the_cluster_lacks_is_told_before_anything_is_planted(
    place: Path, bench: Bench, told: Told, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prover(place, bench, told, red_while(broken))
    monkeypatch.setattr(QuietProver, "why_not", lambda *_: "needs bgp")
    with pytest.raises(CannotPlantError, match="needs bgp"):
        alone(made)
    assert broken.read_text() == "as it was"


def test_the_baseline_leaves_out_what_is_not_green(place: Path, bench: Bench, told: Told) -> None:
    verdicts = {KEY: Seen(Verdict.FAIL, "x"), ("CFG-009", "ipv6"): Seen(Verdict.PASS)}
    made = prover(place, bench, told, lambda _: verdicts)
    made.baseline(["CONN-002"])
    assert made.not_green == {KEY}


@pytest.mark.parametrize("there", [True, False])
def test_agents_are_there_before_the_first_fault(
    place: Path, local: LocalBench, bench: Bench, told: Told, there: bool
) -> None:
    local.has_agents = there
    prover(place, bench, told, lambda _: {}).prepare(SAMPLE)
    assert told.events == ([] if there else ["prepared"])


def test_a_session_that_did_not_end_brings_no_verdicts(tmp_path: Path) -> None:
    (tmp_path / "pytest.log").write_text("it crashed")
    with pytest.raises(FaultError, match="it crashed"):
        prove_session.read(tmp_path)
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "results.json").write_text(
        '{"run": {"complete": false}, "summary": {"exitReason": "interrupted"}, "requirements": []}'
    )
    with pytest.raises(FaultError, match=r"did not end .*interrupted"):
        prove_session.read(tmp_path)


SECOND = Expectation(id="F98", title="u", must=("CFG-009 ipv4",))  # type: ignore[arg-type]


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What another fault breaks."""
    path = tmp_path / "second"
    path.write_text("as it was")
    change = File(node="n", path=str(path), text="broken")
    monkeypatch.setitem(plans._planters, "F98", lambda _: Plan([change]))
    return path


def both_red(*paths: Path) -> Callable[[str], dict[Any, Seen]]:
    """Each requirement is red while its own file is broken."""
    red, green = Seen(Verdict.FAIL, "lost"), Seen(Verdict.PASS)
    return lambda _: {
        key: red if path.read_text() == "broken" else green
        for key, path in zip((KEY, OTHER), paths, strict=True)
    }


def campaign(made: Prover, *rows: Expectation, alone: bool = False) -> dict[str, Finding]:
    """The findings about all of them."""
    run = Campaign(made, rows, SAMPLE, alone=alone)
    found = {row.id: run.finding(row) for row in rows}
    assert {one.row.id for one in run.untold()} == found.keys()
    assert run.untold() == []
    return found


def test_two_faults_that_touch_different_things_share_a_session(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    found = campaign(prover(place, bench, told, both_red(broken, second)), ROW, SECOND)
    assert all(it.proved for it in found.values())
    assert found["F99"].comparison is not None
    assert found["F99"].comparison.failed == {KEY}
    assert found["F98"].together == ("F99",)
    assert [path.read_text() for path in (broken, second)] == ["as it was", "as it was"]
    assert told.events == ["F99+F98/planted", "healthy", "F99+F98/healed"]


def test_rounds_are_decided_once_more_together(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    made = prover(place, bench, told, both_red(broken, second))
    found = campaign(made, ROW, SECOND, alone=True)
    assert all(it.proved for it in found.values())
    planted = ["F99/planted", "healthy", "F98/planted", "healthy"]
    assert told.events == [*planted, "F99+F98/healed"]
    assert json.loads((place / "F98" / "round.json").read_text())["failed"] == ["CFG-009 [ipv4]"]


def test_what_stays_red_after_a_chapter_is_that_of_the_fault_that_made_it_red(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    def answer(name: str) -> dict[Any, Seen]:
        stays = {KEY: Seen(Verdict.FAIL, "lost")} if "healed" in name else {}
        return both_red(broken, second)(name) | stays

    found = campaign(prover(place, bench, told, answer), ROW, SECOND, alone=True)
    assert found["F99"].still_red == (KEY,)
    assert found["F98"].proved


def test_a_surprise_among_several_is_looked_for_in_each_half(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    stray = ("CFG-005", "ipv6")

    def answer(name: str) -> dict[Any, Seen]:
        red = {stray: Seen(Verdict.FAIL, "whose?")} if broken.read_text() == "broken" else {}
        return both_red(broken, second)(name) | red

    found = campaign(prover(place, bench, told, answer), ROW, SECOND)
    assert found["F99"].comparison is not None
    assert found["F99"].comparison.surplus == {stray}
    assert found["F98"].proved
    assert [path.read_text() for path in (broken, second)] == ["as it was", "as it was"]


def test_only_a_fault_that_missed_something_is_planted_again(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    def answer(name: str) -> dict[Any, Seen]:
        hidden = (
            {OTHER: Seen(Verdict.BLOCKED, "by the other", "CONN-002")} if "F99+" in name else {}
        )
        return both_red(broken, second)(name) | hidden

    found = campaign(prover(place, bench, told, answer), ROW, SECOND)
    assert all(it.proved for it in found.values())
    assert found["F98"].together == ()
    assert [event for event in told.events if event.endswith("planted")] == [
        "F99+F98/planted",
        "F98/planted",
    ]


def test_a_run_that_is_ended_tells_what_it_saw(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    def answer(name: str) -> dict[Any, Seen]:
        if name == "F98/planted":
            raise KeyboardInterrupt
        return both_red(broken, second)(name)

    run = Campaign(prover(place, bench, told, answer), [ROW, SECOND], SAMPLE, alone=True)
    with pytest.raises(KeyboardInterrupt):
        run.finding(ROW)
    (left,) = run.unfinished()
    assert left.row.id == "F99"
    assert left.comparison is not None
    assert left.comparison.exact
    assert not left.proved
    assert "before it was seen green again" in left.error
    assert run.untold() == []


def apart(made: Prover, *rows: Expectation) -> bool:
    return all(len(chosen) == 1 for chosen in rounds(rows, made.outlook(rows)))


@pytest.mark.parametrize(
    "change",
    [
        {"must": (KEY,)},
        {"may": {KEY: "depends"}, "must": (OTHER,)},
        {"alone": True},
        {"kind": "control", "must": ()},
    ],
)
def test_faults_with_common_requirements_or_alone_are_not_planted_together(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path, change: dict[str, Any]
) -> None:
    other = SECOND.model_copy(update=change)
    assert apart(prover(place, bench, told, both_red(broken, second)), ROW, other)


def test_a_fault_and_the_same_of_the_other_family_are_planted_together(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    one = ROW.model_copy(update={"alone": True})
    other = SECOND.model_copy(update={"alone": True, "mirror": "F99"})
    third = SECOND.model_copy(update={"id": "F97", "must": (("CFG-010", "ipv4"),)})
    plans = {"F99": Plan(), "F98": Plan(), "F97": Plan()}
    assert rounds([one, other, third], plans) == [[one, other], [third]]


def test_faults_that_touch_the_same_thing_are_not_planted_together(
    place: Path, bench: Bench, told: Told, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = File(node="n", path=str(broken), text="broken otherwise")
    monkeypatch.setitem(plans._planters, "F98", lambda _: Plan([change]))
    assert apart(prover(place, bench, told, red_while(broken)), ROW, SECOND)


def test_a_fault_that_cannot_be_planned_is_planted_alone(
    place: Path, bench: Bench, told: Told, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unready(_: Bench) -> Plan:
        raise FaultError("there is no such pod")

    monkeypatch.setitem(plans._planters, "F98", unready)
    found = campaign(prover(place, bench, told, red_while(broken)), ROW, SECOND)
    assert found["F99"].proved
    assert found["F98"].error == "could not be planted: there is no such pod"
