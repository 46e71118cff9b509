"""The report of ``--prove``: sets, score, what was never red; the same after a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.faults.comparison import Seen, compare
from helpers.faults.expectations import expectations
from helpers.model import Verdict
from helpers.prove import Finding
from helpers.requirements import requirements
from reports.diagnosis.rules import RULES
from reports.model import Results
from reports.proof import PAGE_FILE, PROOF_FILE, merged, proof, read_proof, table, write
from reports.proof_model import Proof
from tests.reports.sample import run

ROOT = Path(__file__).resolve().parents[2]


def record(name: str, *, missing: int = 0, **changes: Any) -> dict[str, Any]:
    row = expectations()[name]
    seen = {key: Seen(Verdict.FAIL, "lost") for key in row.must[missing:]}
    seen |= {key: Seen(Verdict.PASS) for key in row.must[:missing]}
    finding = Finding(row, compare(row, seen), seconds={"run": 12.0})
    return {**finding.to_json(), **changes}


def made(*records: dict[str, Any]) -> Proof:
    return proof(records, expectations(), requirements(), ROOT, 90.0)


def test_score_and_table() -> None:
    found = made(record("F12"), record("F15", missing=1))
    assert (found.score.expected, found.score.seen, found.score.share) == (3, 2, 0.6667)
    assert (found.score.faults, found.score.killed, found.score.proved) == (2, 1, 1)
    text = "\n".join(table(found))
    assert "F12  ok  red CONN-002 [ipv6], CONN-003 [ipv6]" in text
    assert "F15  NO  MISSED EGR-003 [ipv4]" in text
    assert "mutation score 66.7%: 2 of 3 expected verdicts were red" in text


def test_never_red_names_who_would() -> None:
    left = {entry.verdict: entry.elsewhere for entry in made(record("F12")).never_red}
    assert "CONN-002 [ipv6]" not in left
    assert "on recorded input" in left["CFG-001"]
    assert "F11" in left["CFG-010 [ipv6]"]


def test_the_expected_diagnosis_is_given_alone() -> None:
    rule = expectations()["F12"].rule
    right = record("F12", diagnoses=[rule])
    wrong = [record("F12", diagnoses=told) for told in ([], ["unknown"], [rule, "unknown"])]
    found = made(right, *wrong)
    assert (found.score.to_name, found.score.named) == (4, 1)
    text = "\n".join(table(found))
    assert text.count(f"expected {rule} alone") == 3
    assert "diagnosed nothing" in text
    assert "1 of 4 diagnosed as expected" in text


def test_faults_that_were_planted_together_have_a_diagnosis_each() -> None:
    rule, other = expectations()["F12"].rule, expectations()["F15"].rule
    beside = {"together": ["F15"], "rulesBeside": [other]}
    told = ([rule, other], [rule], [other], [rule, other, "unknown"])
    found = made(*(record("F12", diagnoses=each, **beside) for each in told))
    assert [fault.named for fault in found.faults] == [True, True, False, False]


def test_every_expected_diagnosis_is_a_rule_that_knows_the_fault() -> None:
    rules = {rule.name: rule for rule in RULES}
    for row in expectations().values():
        if row.rule is not None:
            assert (row.twin_of or row.id) in rules[row.rule].faults, row.id


def test_every_fault_of_the_catalogue_has_its_diagnosis() -> None:
    lacking = [row.id for row in expectations().values() if row.id[0] in "FR" and not row.rule]
    lacking = [name for name in lacking if "-" not in name]
    assert lacking == []


def test_what_was_not_planted_is_grouped_by_reason() -> None:
    reason = "needs a cluster of profile ipv6-primary, this one is native"
    told = [{"id": name, "title": "t", "notRun": reason} for name in ("B5", "F08")]
    assert f"not planted ({reason}): B5, F08" in list(table(made(record("F12"), *told)))


def test_an_unhealed_fault_is_not_proved() -> None:
    row = expectations()["F12"]
    good = compare(row, {key: Seen(Verdict.FAIL) for key in row.must})
    assert Finding(row, good).proved
    assert not Finding(row, good, healed=False).proved
    assert not Finding(row, good, still_red=(("CONN-002", "ipv6"),)).proved
    assert not Finding(row, None, error="x").proved


def test_files(tmp_path: Path) -> None:
    found = made(record("F12"), record("F15", missing=1, error="it broke"))
    write(found, tmp_path)
    assert read_proof(tmp_path) == found
    assert Proof.model_validate_json((tmp_path / PROOF_FILE).read_text()) == found
    page = (tmp_path / PAGE_FILE).read_text()
    assert "| F12 |" in page
    assert "it broke" in page


def test_runs_of_some_faults_make_one_report() -> None:
    reason = {"id": "B5", "title": "t", "notRun": "needs a cluster of profile ipv6-primary"}
    first = made(record("F15", missing=1), reason)
    second = made(record("F12"))
    third = made(record("F15"))
    whole = merged([first, second, third], expectations(), requirements(), ROOT)
    assert [fault.id for fault in whole.faults] == ["F12", "F15"]
    assert (whole.score.expected, whole.score.seen, whole.score.proved) == (3, 3, 2)
    assert [one.id for one in whole.not_planted] == ["B5"]
    assert whole.seconds == 270.0
    never = {entry.verdict for entry in whole.never_red}
    assert not {"CONN-002 [ipv6]", "EGR-003 [ipv4]"} & never


def test_results_hold_the_proof(tmp_path: Path) -> None:
    found = made(record("F12"))
    healthy = run(tmp_path)
    again = Results.model_validate_json(healthy.model_copy(update={"proof": found}).to_json())
    assert again.proof == found
