"""From verdicts to the summary of a run: counts, what was not tested, exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from helpers.model import Level, Verdict
from helpers.requirements import Requirement
from reports.exit_codes import Ending, exit_code
from reports.inventory import suite_tests
from reports.model import FAMILY_NAMES, FamilyName, NotTested, RequirementResult, Summary

Key = tuple[str, FamilyName]


def summarize(
    results: Sequence[RequirementResult], not_tested: Sequence[NotTested], ending: Ending
) -> Summary:
    code, reason = exit_code(results, ending)
    return Summary(
        verdicts=_count(results),
        by_profile={level: _count(r for r in results if r.profile is level) for level in Level},
        by_group={
            group: {
                family: _count(r for r in results if r.group == group and r.family == family)
                for family in FAMILY_NAMES
                if any(r.group == group and r.family == family for r in results)
            }
            for group in dict.fromkeys(r.group for r in results)
        },
        not_tested=tuple(not_tested),
        harness_errors=ending.harness_errors,
        exit_code=int(code),
        exit_reason=reason,
    )


def keys_of(requirement: Requirement) -> tuple[Key, ...]:
    """The verdicts that a requirement needs: one per family, or one for the pair."""
    if requirement.pair:
        return ((requirement.id, "pair"),)
    return tuple((requirement.id, family.value) for family in requirement.families)


def untested(
    requirements: Mapping[str, Requirement],
    decided: Iterable[Key],
    selected: Iterable[Key],
    root: Path,
) -> list[NotTested]:
    """Every verdict that the catalogue asks for and the run did not give, with its reason."""
    have, chosen = set(decided), set(selected)
    written = {test.requirement for test in suite_tests(root)}
    found = []
    for requirement in requirements.values():
        for key in keys_of(requirement):
            if key in have:
                continue
            if key in chosen:
                reason = "the run ended before its verdict"
            elif requirement.id in written:
                reason = "not selected"
            else:
                reason = "no test yet"
            found.append(NotTested(id=key[0], family=key[1], reason=reason))
    return found


def _count(results: Iterable[RequirementResult]) -> dict[Verdict, int]:
    counted = Counter(r.verdict for r in results)
    return {verdict: counted[verdict] for verdict in Verdict}
