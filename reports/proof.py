"""What planting faults showed about the suite itself: the score, its file, and its page.

``prove.json`` and ``prove.md`` lie beside ``results.json``, which holds the same as ``proof``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from helpers.faults.expectations import Expectation, keys_of, label
from helpers.requirements import Requirement
from reports.inventory import suite_tests
from reports.model import ResultsError
from reports.proof_model import FaultProof, NeverRed, NotPlanted, Proof, Score

PROOF_FILE: Final = "prove.json"
PAGE_FILE: Final = "prove.md"


def write(found: Proof, folder: Path) -> None:
    """Write the file and the page."""
    text = found.model_dump_json(by_alias=True, indent=2)
    (folder / PROOF_FILE).write_text(text + "\n", encoding="utf-8")
    (folder / PAGE_FILE).write_text("\n".join(page(found)) + "\n", encoding="utf-8")


def proof(
    records: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Expectation],
    requirements: Mapping[str, Requirement],
    root: Path,
    seconds: float,
) -> Proof:
    """From what the run told of each fault (``helpers.plugin_prove``) to the report."""
    faults = [FaultProof.model_validate(r) for r in records if "proved" in r]
    not_planted = [
        NotPlanted(id=r["id"], title=r["title"], reason=r["notRun"])
        for r in records
        if "notRun" in r
    ]
    not_green = [key for r in records for key in r.get("notGreen", ())]
    red = {key for fault in faults for key in fault.failed}
    return Proof(
        seconds=round(seconds, 1),
        score=score(faults),
        faults=tuple(faults),
        not_planted=tuple(not_planted),
        not_green=tuple(not_green),
        never_red=tuple(never_red(red, rows.values(), requirements, root)),
    )


def merged(
    runs: Sequence[Proof],
    rows: Mapping[str, Expectation],
    requirements: Mapping[str, Requirement],
    root: Path,
) -> Proof:
    """Several runs, each of some faults, as one; of a fault in several the latest counts."""
    faults = {fault.id: fault for run in runs for fault in run.faults}
    missing = {one.id: one for run in runs for one in run.not_planted if one.id not in faults}
    ordered = sorted(faults.values(), key=lambda fault: list(rows).index(fault.id))
    red = {key for fault in ordered for key in fault.failed}
    return Proof(
        seconds=round(sum(run.seconds for run in runs), 1),
        score=score(ordered),
        faults=tuple(ordered),
        not_planted=tuple(missing.values()),
        not_green=tuple(dict.fromkeys(key for run in runs for key in run.not_green)),
        never_red=tuple(never_red(red, rows.values(), requirements, root)),
    )


def read_proof(place: Path) -> Proof:
    """Read the proof of a run.

    Args:
        place: the run's directory.

    Raises:
        ResultsError: there is none, or it cannot be read; the message says which.
    """
    try:
        return Proof.model_validate_json((place / PROOF_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{place}: no {PROOF_FILE} ({error.strerror})") from error
    except ValidationError as error:
        raise ResultsError(f"{place}: {PROOF_FILE} is of another version: {error}") from error


def score(faults: Iterable[FaultProof]) -> Score:
    """Controls have nothing to turn red: they are counted by themselves."""
    every = list(faults)
    real = [fault for fault in every if fault.kind == "fault"]
    controls = [fault for fault in every if fault.kind == "control"]
    expected = sum(len(f.must) - len(f.absent) if f.compared else len(f.must) for f in real)
    seen = sum(len(set(f.must) & set(f.failed)) for f in real)
    return Score(
        expected=expected,
        seen=seen,
        share=round(seen / expected, 4) if expected else 0.0,
        faults=len(real),
        killed=sum(f.compared and not f.missed for f in real),
        proved=sum(f.proved for f in real),
        to_name=sum(f.compared and f.rule is not None for f in real),
        named=sum(f.compared and f.named for f in real if f.rule is not None),
        controls=len(controls),
        controls_green=sum(f.proved for f in controls),
    )


def never_red(
    red: Iterable[str],
    rows: Iterable[Expectation],
    requirements: Mapping[str, Requirement],
    root: Path,
) -> Iterator[NeverRed]:
    """Verdicts of all requirements that have a test, without those that were red."""
    seen, known = set(red), list(rows)
    written = {test.requirement for test in suite_tests(root)}
    for requirement in requirements.values():
        if requirement.id not in written:
            continue
        for key in keys_of(requirement):
            if label(key) not in seen:
                told = [_elsewhere(row) for row in known if key in row.must]
                yield NeverRed(verdict=label(key), elsewhere="; ".join(told))


def _elsewhere(row: Expectation) -> str:
    if row.recorded:
        return f"{row.id} on recorded input"
    return f"{row.id} in profile {row.profile}" if row.profile else row.id


def table(found: Proof) -> Iterator[str]:
    """The terminal's lines: one fault each, then the score and what was never red."""
    width = max((len(fault.id) for fault in found.faults), default=5)
    for fault in found.faults:
        sets = "  ".join(
            f"{name} {', '.join(keys)}"
            for name, keys in (
                ("red", fault.failed),
                ("MISSED", fault.missed),
                ("SURPLUS", fault.surplus),
                ("NOT GREEN AGAIN", fault.still_red),
                ("unsteady", fault.unsteady),
            )
            if keys
        )
        if fault.misnamed:
            sets += f"  ({fault.misnamed})"
        word = "ok" if fault.proved else "NO"
        yield f"{fault.id.ljust(width)}  {word}  {sets or fault.error or 'all green'}"
    yield from _not_planted(found)
    yield from (f"not green without a fault: {key}" for key in found.not_green)
    yield from _score_lines(found)
    never = requirements_never_red(found)
    if never:
        yield f"requirements that were red in no family ({len(never)}): {', '.join(never)}"


def requirements_never_red(found: Proof) -> list[str]:
    """Requirements none of whose verdicts was red in this run; the page has each family."""
    red = {verdict.partition(" ")[0] for fault in found.faults for verdict in fault.failed}
    never = [entry.verdict.partition(" ")[0] for entry in found.never_red]
    return [name for name in dict.fromkeys(never) if name not in red]


def _score_lines(found: Proof) -> Iterator[str]:
    it = found.score
    yield (
        f"mutation score {it.share:.1%}: {it.seen} of {it.expected} expected verdicts were red; "
        f"{it.killed} of {it.faults} faults noticed, {it.proved} proved exactly, "
        f"{it.named} of {it.to_name} diagnosed as expected; "
        f"{it.controls_green} of {it.controls} controls green; {found.seconds / 60:.1f} min"
    )


def _not_planted(found: Proof) -> Iterator[str]:
    """Those that need another cluster, by the reason."""
    grouped: dict[str, list[str]] = {}
    for entry in found.not_planted:
        grouped.setdefault(entry.reason, []).append(entry.id)
    for reason, ids in grouped.items():
        yield f"not planted ({reason}): {', '.join(ids)}"


def page(found: Proof) -> Iterator[str]:
    """The page in Markdown: the table of faults, the score, and what is left."""
    yield "# What the planted faults showed"
    yield ""
    yield from _score_lines(found)
    yield ""
    yield "| fault | what | must | may | red | missed | surplus | unsteady | healed, green | s |"
    yield "|---|---|---|---|---|---|---|---|---|--:|"
    for fault in found.faults:
        yield _row(fault)
    yield ""
    yield from (f"- {line}" for line in _not_planted(found))
    yield ""
    yield "## Verdicts that no fault of this run turned red"
    yield ""
    for entry in found.never_red:
        yield f"- {entry.verdict}" + (f" ({entry.elsewhere})" if entry.elsewhere else "")
    for fault in found.faults:
        if not fault.proved or fault.misnamed:
            yield from _trouble(fault)


def _row(fault: FaultProof) -> str:
    back = "yes" if fault.healed and not fault.still_red else "NO"
    cells = [
        fault.id,
        fault.title,
        _cell(fault.must),
        _cell(tuple(fault.may)),
        _cell(fault.failed),
        _cell(fault.missed),
        _cell(fault.surplus),
        _cell(fault.unsteady),
        back,
        f"{sum(fault.seconds.values()):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _cell(names: Sequence[str]) -> str:
    return "<br>".join(names) or "-"


def _trouble(fault: FaultProof) -> Iterator[str]:
    yield ""
    yield f"## {fault.id}: {fault.title}"
    yield ""
    if fault.error:
        yield fault.error
    if fault.misnamed:
        yield f"- {fault.misnamed}"
    for key in (*fault.surplus, *(f"{key} after healing" for key in fault.still_red)):
        yield f"- {key}: {' '.join(fault.reasons.get(key, '').split())}"
