"""What the terminal says at the end: a table, one line per trouble, and how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from helpers.model import Level, Verdict
from reports.diagnosis.show import diagnosis_lines
from reports.model import FAMILY_NAMES, FamilyName, RequirementResult, Results

REASON_WIDTH = 160
DETAIL_LINES = 3  # of one reason; all of it is in results.json
# A wait that used more than this share of its time is the next one to fail.
TIGHT_SHARE = 0.5
TIGHT_SHOWN = 5


def summary_lines(results: Results) -> Iterator[str]:
    """Lines of the summary, without colour: letters carry the meaning."""
    yield from _table(results)
    yield from _modes_not_tested(results)
    yield from diagnosis_lines(results.diagnoses)
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.BLOCKED):
        found = [r for r in results.requirements if r.verdict is verdict]
        if found:
            yield ""
            yield f"{verdict.upper()} ({len(found)}):"
            yield from _troubles(found)
    skipped = [
        r for r in results.requirements if r.verdict is Verdict.SKIPPED and r.profile is Level.CORE
    ]
    if skipped:
        yield ""
        yield f"SKIPPED of the core profile ({len(skipped)}):"
        yield from (f"  {label(r)}: {first_line(r.reason)}" for r in skipped)
    yield from _tight_waits(results)
    yield from _lost_agents(results)
    yield ""
    yield f"exit {results.summary.exit_code}: {results.summary.exit_reason}"


def _modes_not_tested(results: Results) -> Iterator[str]:
    """The origin asks for kube-proxy in ipvs mode: a run without it must not look complete."""
    modes = sorted({node.proxy_mode for node in results.cluster.nodes} if results.cluster else ())
    if modes and "ipvs" not in modes:
        yield f"kube-proxy in ipvs mode was not tested: the nodes run {', '.join(modes)}"


def _troubles(found: list[RequirementResult]) -> Iterator[str]:
    for reason, group in _by_reason(found).items():
        # Many requirements with the very same reason are one finding: said once.
        if len(group) > 3:
            yield f"  {', '.join(label(r) for r in group)}:"
            yield f"      {reason}"
            yield f"      > {group[0].repeat}"
            continue
        for result in group:
            yield f"  {label(result)}: {reason}"
            yield from (f"      {line}" for line in _lines(result.reason)[1:DETAIL_LINES])
            yield f"      > {result.repeat}"


def _tight_waits(results: Results) -> Iterator[str]:
    """Waits that ended well and late: a cluster getting slower shows here before it fails."""
    tight = sorted(
        (
            (wait.waited / wait.within, wait, result)
            for result in results.requirements
            for wait in result.waits
            # At the limit and good is a promise that something stays: no head-room to speak of.
            if wait.settled and TIGHT_SHARE * wait.within < wait.waited < wait.within
        ),
        key=lambda found: -found[0],
    )
    if tight:
        yield ""
        yield f"LATE BUT IN TIME ({len(tight)} waits used over {TIGHT_SHARE:.0%} of their limit):"
    for _, wait, result in tight[:TIGHT_SHOWN]:
        yield f"  {label(result)}: {wait.what}: {wait.waited:.1f} of {wait.within:g} s"


def _lost_agents(results: Results) -> Iterator[str]:
    """A lost agent is connected again, so a run may pass with some: they are named all the same."""
    if results.lost_agents:
        yield ""
        yield f"LOST AGENTS ({len(results.lost_agents)}):"
    for lost in results.lost_agents:
        yield f"  {lost.agent}, during {lost.op}: {first_line(lost.reason)}"


def _by_reason(found: Iterable[RequirementResult]) -> Mapping[str, list[RequirementResult]]:
    grouped: dict[str, list[RequirementResult]] = {}
    for result in found:
        grouped.setdefault(first_line(result.reason), []).append(result)
    return grouped


def _table(results: Results) -> Iterator[str]:
    families = [f for f in FAMILY_NAMES if any(r.family == f for r in results.requirements)]
    groups = list(dict.fromkeys(r.group for r in results.requirements))
    rows = [
        ("", *families),
        *((group, *(_cell(results, group, family) for family in families)) for group in groups),
        ("all", *(_cell(results, None, family) for family in families)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(families) + 1)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield "P pass, F fail, B blocked, I inconclusive, S skipped"


def _cell(results: Results, group: str | None, family: FamilyName) -> str:
    counted = Counter(
        r.verdict for r in results.requirements if r.family == family and group in (None, r.group)
    )
    order = (
        Verdict.PASS,
        Verdict.FAIL,
        Verdict.BLOCKED,
        Verdict.INCONCLUSIVE,
        Verdict.SKIPPED,
    )
    return " ".join(f"{counted[v]}{v.letter}" for v in order if counted[v]) or "-"


def label(result: RequirementResult) -> str:
    """``SVC-007 [ipv6]``, and for a pair ``CFG-001``."""
    return result.id if result.family == "pair" else f"{result.id} [{result.family}]"


def first_line(reason: str) -> str:
    return _lines(reason)[0]


def _lines(reason: str) -> list[str]:
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["no reason given"]
    return [
        line if len(line) <= REASON_WIDTH else f"{line[: REASON_WIDTH - 4]} ..." for line in lines
    ]
