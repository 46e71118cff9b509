"""The order of proving: planted, decided, healed, decided again, whatever goes wrong between."""

from __future__ import annotations

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
from helpers.faults.plans import Plan
from helpers.faults.planting import Journal
from helpers.model import Verdict
from helpers.prove import CannotPlantError, Finding, Prover
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
    assert found is not None
    return found["F99"]


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


def test_two_faults_that_touch_different_things_share_a_session(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    made = prover(place, bench, told, both_red(broken, second))
    assert made.company(ROW, [SECOND]) == [ROW, SECOND]
    found = made.prove([ROW, SECOND], SAMPLE)
    assert found is not None
    assert all(it.proved for it in found.values())
    assert found["F99"].comparison is not None
    assert found["F99"].comparison.failed == {KEY}
    assert found["F98"].together == ("F99",)
    assert [path.read_text() for path in (broken, second)] == ["as it was", "as it was"]
    assert told.events == ["F99+F98/planted", "healthy", "F99+F98/healed"]


def test_a_surprise_among_several_is_nobodys(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path
) -> None:
    def answer(name: str) -> dict[Any, Seen]:
        stray = {("CFG-005", "ipv6"): Seen(Verdict.FAIL, "whose?")} if "planted" in name else {}
        return both_red(broken, second)(name) | stray

    assert prover(place, bench, told, answer).prove([ROW, SECOND], SAMPLE) is None
    assert [path.read_text() for path in (broken, second)] == ["as it was", "as it was"]


@pytest.mark.parametrize(
    "change",
    [{"must": (KEY,)}, {"may": {KEY: "depends"}, "must": (OTHER,)}, {"alone": True}],
)
def test_faults_with_common_requirements_or_alone_are_not_planted_together(
    place: Path, bench: Bench, told: Told, broken: Path, second: Path, change: dict[str, Any]
) -> None:
    other = SECOND.model_copy(update=change)
    made = prover(place, bench, told, both_red(broken, second))
    assert made.company(ROW, [other]) == [ROW]


def test_faults_that_touch_the_same_thing_are_not_planted_together(
    place: Path, bench: Bench, told: Told, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = File(node="n", path=str(broken), text="broken otherwise")
    monkeypatch.setitem(plans._planters, "F98", lambda _: Plan([change]))
    assert prover(place, bench, told, red_while(broken)).company(ROW, [SECOND]) == [ROW]
