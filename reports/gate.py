"""From the parts of an upgrade gate to one set of results with a yes or a no."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from helpers.model import Verdict
from reports.diff import Change, differences
from reports.exit_codes import Ending, ExitCode, GateEnding, gate_code
from reports.gate_model import Gate, GatePart, Regression
from reports.model import RequirementResult, Results, ResultsError, RunInfo, read
from reports.summarize import summarize

UNDECIDED: Final = (Verdict.BLOCKED, Verdict.INCONCLUSIVE)
Record = Mapping[str, Any]  # of helpers.plugin_gate


def load(records: Iterable[Record]) -> dict[str, Results]:
    """Results of the parts that have some, by the name of the part."""
    found = {}
    for record in records:
        if record["folder"]:
            try:
                found[record["name"]] = read(Path(record["folder"]))
            except ResultsError:
                continue  # the part says that it has none
    return found


def part_of(record: Record, seen: Results | None, folder: Path) -> GatePart:
    """One part as the report tells it.

    Args:
        folder: of the gate's own report.
    """
    if seen is None:
        reason, complete, calico = "the session brought no verdicts", False, None
    else:
        reason, complete = seen.summary.exit_reason, seen.run.complete
        calico = seen.cluster.calico if seen.cluster else None
    there = os.path.relpath(record["folder"], folder) if record["folder"] else None
    return GatePart(
        name=record["name"],
        title=record["title"],
        changes=record["changes"],
        command=record["command"],
        folder=there,
        seconds=record["seconds"],
        calico=calico,
        exit_code=record["code"],
        exit_reason=reason,
        complete=complete,
    )


def regressions(before: Results, after: Results) -> list[Regression]:
    """Verdicts that are worse than before or gone; those that fail now come first."""
    found = []
    for each in differences(before, after):
        if each.old is None or each.change not in (Change.WORSE, Change.GONE):
            continue
        new = each.new
        found.append(
            Regression(
                id=each.key[0],
                family=each.key[1],
                before=each.old.verdict,
                after=new.verdict if new else None,
                reason=new.reason if new else "",
            )
        )
    return sorted(found, key=lambda r: r.after is not Verdict.FAIL)


def judge(parts: Sequence[GatePart], seen: Mapping[str, Results], asked: Sequence[str]) -> Judged:
    """What speaks against the upgrade.

    Args:
        seen: results by part.
        asked: names of all parts that were to run.
    """
    failed, undecided, unclear = [], [], []
    for part in parts:
        told = f"{part.title}: {part.exit_reason}"
        after = part.name != "before"
        if part.exit_code == ExitCode.FAILED and after:
            failed.append(told)
        elif part.exit_code not in (ExitCode.OK, ExitCode.FAILED) or not part.complete:
            undecided.append(told)
        if part.changes and part.name in seen:
            unclear += _unclear(part, seen[part.name])
    done = {part.name for part in parts}
    undecided += [f"the part {name} did not run" for name in asked if name not in done]
    worse = [
        regression
        for name in ("after", "after-back")
        if name in seen and "before" in seen
        for regression in regressions(seen["before"], seen[name])
    ]
    unclear += [str(r) for r in worse if r.after is not Verdict.FAIL]
    ending = GateEnding(
        failed_after=tuple(failed),
        undecided=tuple(undecided),
        regressions=tuple(str(r) for r in worse if r.after is Verdict.FAIL),
        unclear=tuple(unclear),
    )
    return worse, ending


Judged = tuple[list[Regression], GateEnding]


def _unclear(part: GatePart, seen: Results) -> list[str]:
    """In the part that changes the cluster a verdict that is not there is not a yes either."""
    found = [
        f"{part.title}: {r.id} [{r.family}] is {r.verdict}: {r.reason}"
        for r in seen.requirements
        if r.verdict in (*UNDECIDED, Verdict.SKIPPED)
    ]
    if not seen.requirements:
        found.append(f"{part.title}: no flow was judged")
    return found


def gathered(
    run: RunInfo, folder: Path, records: Sequence[Record], asked: Sequence[str], ending: Ending
) -> tuple[Results, Results | None]:
    """The gate's results, and those before the upgrade to compare with.

    The requirements are those after the upgrade, with what the upgrade itself decided; evidence is
    named relative to ``folder``.
    """
    seen = load(records)
    parts = [part_of(record, seen.get(record["name"]), folder) for record in records]
    worse, found = judge(parts, seen, asked)
    code, reason = gate_code(found, ending)
    verdicts: dict[tuple[str, str], RequirementResult] = {}
    diagnoses: tuple[Any, ...] = ()
    last: Results | None = None
    for part in parts:
        results = seen.get(part.name)
        if results is None or part.folder is None:
            continue
        last = results
        if part.name != "before":
            diagnoses = (*diagnoses, *results.diagnoses)
        for result in results.requirements:
            moved = _moved(result, part.folder)
            old = verdicts.get(result.key) if part.changes else None  # both ways of an upgrade
            verdicts[result.key] = moved if old is None else _worst(old, moved)
    ordered = tuple(verdicts.values())
    summary = summarize(ordered, (), Ending()).model_copy(
        update={"exit_code": int(code), "exit_reason": reason}
    )
    before = seen.get("before")
    gate = Gate(
        ships=code == ExitCode.OK,
        old=_release(before),
        new=_release(seen.get("after") or seen.get("upgrade")),
        parts=tuple(parts),
        regressions=tuple(worse),
        unclear=(*found.undecided, *found.unclear),
    )
    results = Results(
        run=run.model_copy(update={"complete": all(p.complete for p in parts) and bool(parts)}),
        cluster=last.cluster if last else None,
        requirements=ordered,
        lost_agents=tuple(lost for each in seen.values() for lost in each.lost_agents),
        diagnoses=diagnoses,
        summary=summary,
        gate=gate,
    )
    return results, before


def _moved(result: RequirementResult, folder: str) -> RequirementResult:
    """The same, with its evidence where it lies as seen from the gate's report."""
    evidence = tuple(f"{folder}/{file}" for file in result.evidence)
    return result.model_copy(update={"evidence": evidence})


def _worst(old: RequirementResult, new: RequirementResult) -> RequirementResult:
    worst = Verdict.worst((old.verdict, new.verdict))
    kept = old if old.verdict is worst else new
    return kept.model_copy(update={"evidence": old.evidence + new.evidence})


def _release(results: Results | None) -> str | None:
    return results.cluster.calico if results and results.cluster else None


def lines(gate: Gate, code: int, reason: str) -> Iterable[str]:
    """The terminal's part: short, the answer last."""
    yield f"Calico {gate.old or 'unknown'} -> {gate.new or 'unknown'}"
    for part in gate.parts:
        yield f"  {part.name:<11} exit {part.exit_code}  {part.seconds:6.0f} s  {part.title}"
        if part.exit_code:
            yield f"{'':14}{part.exit_reason}"
    for regression in gate.regressions:
        yield f"  worse: {regression}"
        if regression.reason:
            yield f"         {regression.reason.splitlines()[0][:160]}"
    yield f"{'YES' if gate.ships else 'NO'} ({code}): {reason}"
