"""Which causes a run has: the most specific rule wins, consequences go under their cause.

Pure: the same results give the same diagnoses, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helpers.model import Family, Verdict
from reports.diagnosis.case import Case, names
from reports.diagnosis.rule import Match, NoMatch, Rule, apply
from reports.diagnosis.rules import RULES
from reports.diagnosis.signs import named
from reports.diagnosis.words import PATHS, asymmetry
from reports.model import Consequence, Diagnosis, RequirementResult, Results
from reports.summarize import Key

TROUBLES = (Verdict.FAIL, Verdict.BLOCKED, Verdict.INCONCLUSIVE)
RULED_OUT_SHOWN = 8


def diagnose(results: Results, rules: Sequence[Rule] = RULES) -> tuple[Diagnosis, ...]:
    """Causes of what failed, deepest first; last, one that is *unknown* for what is left."""
    case = Case(results)
    matches, missed = _applied(case, rules)
    left = {r.key: r for r in results.requirements if r.verdict in TROUBLES}
    found = []
    for match in matches:
        shown = [key for key in match.shown_by if key in left]
        if match.shown_by and not shown:
            continue  # a more specific rule has explained all that speaks for this one
        mine = _claimed(case, match, left)
        if not any(result.verdict is Verdict.FAIL for result in mine):
            continue
        for result in mine:
            del left[result.key]
        found.append(_diagnosis(case, match, mine))
    unknown = [r for r in left.values() if r.verdict is Verdict.FAIL]
    if unknown:
        blocked = _blocked_by({r.key for r in unknown}, left)
        found.append(_unknown(case, unknown, blocked, missed))
    return tuple(found)


def diagnosed(results: Results) -> Results:
    """The same results with their diagnoses."""
    return results.model_copy(update={"diagnoses": diagnose(results)})


def _applied(case: Case, rules: Sequence[Rule]) -> tuple[list[Match], list[NoMatch]]:
    """Rules that hold, most specific first (once for both families), and those that do not."""
    matches: list[Match] = []
    missed: list[NoMatch] = []
    for rule in rules:
        outcomes = [apply(rule, case, family) for family in rule.families]
        held = [outcome for outcome in outcomes if isinstance(outcome, Match)]
        missed += [outcome for outcome in outcomes if isinstance(outcome, NoMatch)]
        if len(held) == 2 and not (rule.apart or rule.speaks_of_one_family):
            held = [held[0].merged(held[1])]
        matches += held
    return sorted(matches, key=lambda m: m.rule.specificity, reverse=True), missed


# -- consequences ---------------------------------------------------------------------------------


def _claimed(
    case: Case, match: Match, left: dict[Key, RequirementResult]
) -> list[RequirementResult]:
    """What a cause explains of what is left, and what that blocks."""
    direct = {
        key
        for key, result in left.items()
        if key in match.shown_by or _explains(case, match, result)
    }
    failed = {key for key in direct if left[key].verdict is Verdict.FAIL}
    mine = direct | {r.key for r in _blocked_by(failed, left)}
    return [result for key, result in left.items() if key in mine]


def _explains(case: Case, match: Match, result: RequirementResult) -> bool:
    in_family = result.family == "pair" or _family(result) in match.families or match.rule.across
    if not in_family or result.id not in match.rule.explains:
        return False
    nodes = match.values.get("node", ())
    if not match.rule.local or not nodes or result.id not in PATHS:
        return True
    # Losses on paths that do not touch the node have another cause.
    ends = [(c.source, c.target) for c in result.cells if not c.good]
    return all(any(names(end, node) for end in pair for node in nodes) for pair in ends)


def _blocked_by(
    failed: Iterable[Key], left: dict[Key, RequirementResult]
) -> list[RequirementResult]:
    """Results that one of the failed ones blocks, over any number of steps."""
    blocking = set(failed)
    found: dict[Key, RequirementResult] = {}
    grown = True
    while grown:
        new = {
            key: result
            for key, result in left.items()
            if result.verdict is Verdict.BLOCKED and key not in found and _blocks(result, blocking)
        }
        found |= new
        blocking |= set(new)
        grown = bool(new)
    return list(found.values())


def _blocks(result: RequirementResult, blocking: Iterable[Key]) -> bool:
    by = result.blocked_by
    return any(
        by == name and (result.family == family or "pair" in (result.family, family))
        for name, family in blocking
    )


# -- as results -----------------------------------------------------------------------------------


def _diagnosis(case: Case, match: Match, mine: Sequence[RequirementResult]) -> Diagnosis:
    return Diagnosis(
        rule=match.rule.name,
        faults=match.rule.faults,
        cause=match.cause,
        evidence=match.evidence,
        fix=match.fix,
        asymmetry=asymmetry(case, mine),
        consequences=tuple(map(_consequence, mine)),
    )


def _consequence(result: RequirementResult) -> Consequence:
    return Consequence(id=result.id, family=result.family, verdict=result.verdict)


def _unknown(
    case: Case,
    failed: Sequence[RequirementResult],
    blocked: Sequence[RequirementResult],
    missed: Sequence[NoMatch],
) -> Diagnosis:
    """What no rule explains: what was seen, and which causes it is not."""
    mine = [*failed, *blocked]
    told = ", ".join(named(r.key) for r in failed)
    ruled_out, open_ = _alternatives(failed, missed)
    return Diagnosis(
        rule=None,
        faults=(),
        cause=f"unknown: no rule names a cause of {told}",
        evidence=tuple(f"{named(r.key)}: {case.said(r.id, _family(r))}" for r in failed),
        fix=(),
        asymmetry=asymmetry(case, mine),
        consequences=tuple(map(_consequence, mine)),
        ruled_out=ruled_out,
        not_looked_at=open_,
    )


def _family(result: RequirementResult) -> Family:
    return Family.IPV4 if result.family == "pair" else Family(result.family)


def _alternatives(
    failed: Sequence[RequirementResult], missed: Sequence[NoMatch]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rules that could have explained a failure: why they do not, and what nobody looked at."""
    ruled_out: list[str] = []
    open_: list[str] = []
    for miss in missed:
        could = any(
            r.id in miss.rule.explains and r.family in ("pair", miss.family.value) for r in failed
        )
        if not could:
            continue
        line = f"{miss.rule.name} ({miss.family.kubernetes}): {miss.missing.why}"
        (ruled_out if miss.missing.known else open_).append(line)
    return tuple(ruled_out[:RULED_OUT_SHOWN]), tuple(open_[:RULED_OUT_SHOWN])
