"""What flows may lose while the cluster is disturbed: data with reasons, in suites/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from helpers.flow_model import Flow, FlowKind, FlowReport, Gap, Stall, Way

LIMITS_FILE: Final = Path(__file__).resolve().parents[2] / "suites" / "flow_limits.yaml"
# A flow that sent less than this, or paused longer than what it may lose, saw too little.
SENT_AT_LEAST: Final = 2
_KEYS: Final = {"during", "kinds", "ways", "longest", "lost", "resets", "reason"}


class LimitsError(ValueError):
    """The file is wrong; the message says where and what to write."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What some flows may lose during some disturbances.

    Attributes:
        during: requirements whose disturbance it is.
        longest: seconds of the longest gap, and of the longest stall.
        lost: share of everything sent, between 0 and 1.
        resets: of established connections.
    """

    during: frozenset[str]
    kinds: frozenset[FlowKind]
    ways: frozenset[Way]
    longest: float
    lost: float
    resets: int
    reason: str

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Limit:
        """One entry of the file.

        Raises:
            LimitsError: a key is missing or unknown, or a value is none of the choices.
        """
        if entry.keys() != _KEYS:
            raise LimitsError(f"limit {dict(entry)}: the keys are {sorted(_KEYS)}, each once")
        try:
            kinds = list(FlowKind) if entry["kinds"] == "all" else map(FlowKind, entry["kinds"])
            ways = list(Way) if entry["ways"] == "all" else map(Way, entry["ways"])
            return cls(
                during=frozenset(entry["during"]),
                kinds=frozenset(kinds),
                ways=frozenset(ways),
                longest=float(entry["longest"]),
                lost=float(entry["lost"]),
                resets=int(entry["resets"]),
                reason=str(entry["reason"]),
            )
        except ValueError as error:
            raise LimitsError(f"limit during {entry['during']}: {error}") from error

    def covers(self, during: str, flow: Flow) -> bool:
        return during in self.during and flow.kind in self.kinds and flow.way in self.ways


@cache
def limits(file: Path = LIMITS_FILE) -> tuple[Limit, ...]:
    """All limits, in the order of the file: the first that covers a flow counts."""
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))["limits"]
    return tuple(Limit.parse(entry) for entry in entries)


def limit_of(during: str, flow: Flow, among: Iterable[Limit] | None = None) -> Limit:
    """The limit of one flow.

    Raises:
        LimitsError: the file has none for it: nothing is judged by default.
    """
    for limit in limits() if among is None else among:
        if limit.covers(during, flow):
            return limit
    raise LimitsError(
        f"{LIMITS_FILE.name} has no limit for {flow.kind} {flow.way} during {during}: add one"
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """One flow against its limit; ``unseen`` says why it cannot be judged."""

    report: FlowReport
    limit: Limit
    exceeded: tuple[str, ...]
    unseen: str | None


Span = tuple[float, float]


def overlap(span: Span, others: Iterable[Span]) -> float:
    """Seconds of a time that lie in one of some others, which do not overlap each other."""
    return sum(max(0.0, min(span[1], end) - max(span[0], start)) for start, end in others)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same times without overlaps, in order."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def held_up(reports: Iterable[FlowReport]) -> list[Span]:
    """When an agent was slow to answer itself: the machine held its processes up then."""
    hurt: list[Gap | Stall] = []
    for report in reports:
        if report.flow.way is Way.CONTROL:
            hurt += [*report.gaps, *report.stalls]
    return merged((each.began, each.ended) for each in hurt)


def _beyond(report: FlowReport, limit: Limit, held: Sequence[Span]) -> list[str]:
    """What exceeds a limit, without the times in which the machine itself stood still."""

    def longest(hurt: Iterable[Gap | Stall]) -> float:
        return max((h.seconds - overlap((h.began, h.ended), held) for h in hurt), default=0.0)

    excused = sum(gap.lost for gap in report.gaps if overlap((gap.began, gap.ended), held))
    lost = report.lost - excused
    exceeded = []
    if longest(report.gaps) > limit.longest:
        exceeded.append(f"a gap of {report.longest_gap:.2f} s, allowed are {limit.longest:g} s")
    if longest(report.stalls) > limit.longest:
        exceeded.append(f"a stall of {report.longest_stall:.2f} s, allowed are {limit.longest:g} s")
    if lost > limit.lost * report.sent:
        exceeded.append(
            f"{lost} of {report.sent} lost ({lost / report.sent:.1%}), allowed are {limit.lost:.1%}"
        )
    return exceeded


def judge(report: FlowReport, limit: Limit, held: Sequence[Span] = ()) -> Judgement:
    """What a flow lost beyond its limit, and whether it saw enough to tell.

    What is lost while the machine itself stands still proves nothing about the network: it is no
    finding, and no proof that all was well either.

    Args:
        held: when that was (``held_up``).
    """
    exceeded = _beyond(report, limit, held)
    if report.reset_count > limit.resets:
        why = report.resets[0].why if report.resets else "unknown"
        exceeded.append(f"{report.reset_count} resets ({why}), allowed are {limit.resets}")
    unseen = None
    if report.own_errors:
        unseen = f"{report.own_errors} attempts could not be made: {_errors(report)}"
    elif report.sent < SENT_AT_LEAST:
        unseen = f"only {report.sent} were sent"
    elif report.longest_pause > limit.longest and report.flow.kind is not FlowKind.IDLE:
        unseen = f"its sender was held up for {report.longest_pause:.1f} s"
    elif not exceeded and _beyond(report, limit, ()):
        unseen = f"{_beyond(report, limit, ())[0]}, but the machine stood still then"
    return Judgement(
        report, limit, tuple(exceeded), unseen if report.own_errors or not exceeded else None
    )


def _errors(report: FlowReport) -> str:
    return ", ".join(sorted(report.errors))


def worst(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Those that exceed their limits, the longest gaps first."""
    bad = [judgement for judgement in judgements if judgement.exceeded and not judgement.unseen]
    return sorted(bad, key=lambda j: -max(j.report.longest_gap, j.report.longest_stall))
