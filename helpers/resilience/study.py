"""A disturbance with flows around it: what was lost, and what happened meanwhile.

One disturbance serves both families, and every requirement that judges it: it is made once per run
(``helpers.once``), by whichever test asks first, and kept as plain data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from helpers.findings import demand_none
from helpers.flow_model import Flow, FlowReport, Gap, Stall, Way
from helpers.flows import RunningFlows, flowing
from helpers.model import FAMILIES, Family
from helpers.resilience.happenings import Event, Watch, causes, condensed, watching
from helpers.resilience.limits import Judgement, held_up, judge, limit_of
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, consistently

if TYPE_CHECKING:
    from helpers.agents.pool import AgentPool
    from helpers.evidence import Evidence
    from helpers.kube import Kube

CALM_BEFORE: Final = 2.0  # seconds without a loss, or nothing that comes later has a cause
CALM_AFTER: Final = 3.0  # seconds in which late effects still count
GAPS_TOLD: Final = 3
EVENTS_DRAWN: Final = 120
MANY: Final = ("route", "address")
Json = dict[str, Any]
# What the events themselves show, given them and when watching ended.
EventJudge = Callable[[Sequence[Event], float], Mapping[Family, list[str]]]


def everything(_: Flow) -> bool:
    """Of a requirement that judges every flow."""
    return True


@dataclass(slots=True)
class Window:
    """A time with a name, on the harness's clock."""

    what: str
    began: float
    ended: float


@dataclass(slots=True)
class Study:
    """A disturbance while it is being made."""

    running: RunningFlows
    watch: Watch
    windows: list[Window] = field(default_factory=list)
    findings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def during(self, what: str, act: Callable[[], object]) -> None:
        """Do something that has a name in the timeline."""
        began = time.time()
        self.watch.note("harness", "test", what)
        try:
            act()
        finally:
            self.windows.append(Window(what, began, time.time()))

    def expect(
        self, requirement: str, families: Iterable[Family], what: str, wait: Callable[[], object]
    ) -> None:
        """A named wait; when it fails that is a finding, and the flows are judged all the same."""
        try:
            self.during(what, wait)
        except NotSettled as error:
            for family in families:
                self.find(requirement, family, f"{what}: {error}")

    def find(self, requirement: str, family: Family, *findings: str) -> None:
        """What the disturbance itself showed, beside the flows."""
        self.findings.setdefault(requirement, {}).setdefault(family.value, []).extend(findings)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is kept of a study, for one requirement.

    Attributes:
        findings: by family; what exceeds a limit, with its causes.
        unseen: by family; what could not be judged.
        figure: the timeline (``reports.figures``).
        files: more evidence of the disturbance; kept with the first family that is decided.
    """

    findings: Mapping[str, list[str]]
    unseen: Mapping[str, list[str]]
    figure: Json
    files: dict[str, Json] = field(default_factory=dict)

    def decide(self, family: Family, evidence: Evidence) -> None:
        """Attach the timeline and give the verdict of one family.

        Raises:
            AssertionError: something exceeds its limit.
            Inconclusive: nothing does, but some flows could not be judged.
        """
        lanes = [lane for lane in self.figure["lanes"] if lane["family"] == family.value]
        evidence.attach("timeline.json", {**self.figure, "lanes": lanes}, always=True)
        if family.value == self.figure.get("first"):
            for name, content in self.files.items():
                evidence.attach(name, content, always=True)
        demand_none(self.findings.get(family.value, []))
        unseen = self.unseen.get(family.value, [])
        if unseen:
            raise Inconclusive(f"{len(unseen)} flows saw too little: {unseen[0]}")


def outcome(raw: Json, requirement: str) -> Outcome:
    """The part of ``observe`` that one requirement judges."""
    mine = raw["judged"][requirement]
    figure = raw["figure"]
    # Of controls only those are shown that say when the machine stood still.
    lanes = [
        lane
        for lane in figure["lanes"]
        if requirement in lane["judgedBy"]
        and (lane["gaps"] or not lane["path"].startswith(Way.CONTROL))
    ]
    return Outcome(mine["findings"], mine["unseen"], {**figure, "lanes": lanes})


def observe(
    title: str,
    kube: Kube,
    agents: AgentPool,
    flows: Sequence[Flow],
    disturb: Callable[[Study], None],
    judged: Mapping[str, Callable[[Flow], bool]],
    *,
    after: float = CALM_AFTER,
    of_events: Mapping[str, EventJudge] | None = None,
) -> Json:
    """Disturb the cluster with flows around it.

    Args:
        judged: requirement -> which flows its limits are for.
        of_events: requirement -> what it judges of the events, beside the flows.
        after: seconds of flows after the disturbance.

    Raises:
        Inconclusive: an agent was lost for good, or the flows could not be started.
        NotSettled: the disturbance did not come to its end.
    """
    with flowing(flows) as running, watching(kube, agents) as watch:
        study = Study(running, watch)
        _calm(CALM_BEFORE)
        before = {report.flow: report for report in running.look()}
        disturb(study)
        _calm(after)
        reports = running.stop()
        events = watch.end()
    for requirement, look in (of_events or {}).items():
        for family, found in look(events, time.time()).items():
            study.find(requirement, family, *found)
    told: Json = {"judged": {}, "figure": {}}
    held = held_up(reports)
    verdicts: dict[Flow, Judgement] = {}
    for requirement, mine in judged.items():
        judgements = {
            report.flow: judge(report, limit_of(requirement, report.flow), held)
            for report in reports
            if report.flow.way is not Way.CONTROL and mine(report.flow)
        }
        verdicts.update(judgements)
        told["judged"][requirement] = _judged(
            list(judgements.values()), before, events, study.findings.get(requirement, {})
        )
    told["figure"] = figure(title, study, reports, verdicts, events)
    for lane, report in zip(told["figure"]["lanes"], reports, strict=True):
        lane["judgedBy"] = [r for r, mine in judged.items() if mine(report.flow)]
    return told


def _calm(seconds: float) -> None:
    consistently(lambda: "flows run", bool, during=seconds, every=seconds, what="flows run calmly")


def _judged(
    judgements: Sequence[Judgement],
    before: Mapping[Flow, FlowReport],
    events: Sequence[Event],
    others: Mapping[str, list[str]],
) -> Json:
    findings: dict[str, list[str]] = {
        family.value: list(others.get(family, ())) for family in FAMILIES
    }
    unseen: dict[str, list[str]] = {family.value: [] for family in FAMILIES}
    for each in judgements:
        flow = each.report.flow
        early = before[flow]
        if early.lost or early.resets:
            unseen[flow.family].append(f"{early} before anything was done to the cluster")
        elif each.unseen:
            unseen[flow.family].append(f"{flow.name}: {each.unseen}")
        elif each.exceeded:
            findings[flow.family].append(sentence(each, events))
    return {"findings": findings, "unseen": unseen}


def sentence(judgement: Judgement, events: Sequence[Event]) -> str:
    """What one flow lost, and what happened then."""
    report = judgement.report
    text = f"{report.flow.name}: {'; '.join(judgement.exceeded)}"
    hurt: list[Gap | Stall] = [*report.gaps, *report.stalls]
    for gap in sorted(hurt, key=lambda gap: -gap.seconds)[:1]:
        why = causes(events, report.flow.family, gap.began, gap.ended)
        text += f"; then happened: {why}"
    return text


# -- the timeline ---------------------------------------------------------------------------------


def figure(
    title: str,
    study: Study,
    reports: Sequence[FlowReport],
    verdicts: Mapping[Flow, Judgement],
    events: Sequence[Event],
) -> Json:
    """Flows, events and windows in seconds since the study's beginning (``reports.figures``)."""
    origin = min([study.started, *(report.began for report in reports)])
    return {
        "figure": "timeline",
        "first": min((r.flow.family.value for r in reports), default=None),
        "title": title,
        "started": datetime.fromtimestamp(origin, UTC).isoformat(),
        "seconds": round(max([study.started, *(r.until for r in reports)]) - origin, 3),
        "clockError": max((report.uncertainty for report in reports), default=None),
        "lanes": [_lane(report, verdicts.get(report.flow), events, origin) for report in reports],
        "events": [
            {
                "at": round(event.at - origin, 3),
                "what": f"{event.kind}: {event.text}",
                "where": event.where,
                "family": event.family.value if event.family else None,
            }
            for event in drawn(events)
        ],
        "limits": _limits(verdicts.values()),
        "windows": [
            {"start": round(w.began - origin, 3), "end": round(w.ended - origin, 3), "what": w.what}
            for w in study.windows
        ],
    }


def _limits(judgements: Iterable[Judgement]) -> list[Json]:
    """What was allowed, each limit once, with its reason."""
    found = dict.fromkeys(judgement.limit for judgement in judgements)
    return [
        {
            "flows": ", ".join(sorted(kind.value for kind in limit.kinds)),
            "longest": limit.longest,
            "lost": limit.lost,
            "resets": limit.resets,
            "reason": limit.reason,
        }
        for limit in found
    ]


def drawn(events: Sequence[Event]) -> list[Event]:
    """What a timeline can show: bursts told once, and of endless changes of routes the first."""
    told = condensed(events)
    few = [event for event in told if event.kind not in MANY][:EVENTS_DRAWN]
    many = [event for event in told if event.kind in MANY]
    kept = many[: EVENTS_DRAWN - len(few)]
    if len(many) > len(kept):
        text = f"{len(many) - len(kept)} more changes of routes and addresses are not drawn"
        few.append(Event(many[len(kept)].at, "monitor", "timeline", text))
    return sorted([*few, *kept], key=lambda event: event.at)


def _lane(
    report: FlowReport, judgement: Judgement | None, events: Sequence[Event], origin: float
) -> Json:
    flow = report.flow
    hurt: list[Gap | Stall] = [*report.gaps[:GAPS_TOLD], *report.stalls[:GAPS_TOLD]]
    gaps = [
        {
            "start": round(gap.began - origin, 3),
            "end": round(gap.ended - origin, 3),
            "lost": getattr(gap, "lost", 0),
            "cause": causes(events, flow.family, gap.began, gap.ended),
        }
        for gap in hurt
    ]
    said: Json = {}
    if judgement is not None:
        verdict = "inconclusive" if judgement.unseen else "fail" if judgement.exceeded else "pass"
        said = {
            "gapLimit": judgement.limit.longest,
            "lostLimit": int(judgement.limit.lost * report.sent),
            "verdict": verdict,
            "reason": judgement.unseen or "; ".join(judgement.exceeded),
        }
    return {
        "path": f"{flow.way}: {flow.source.name} to {flow.to}",
        "flow": flow.kind.value,
        "family": flow.family.value,
        "start": round(report.began - origin, 3),
        "end": round(report.until - origin, 3),
        "sent": report.sent,
        "lost": report.lost,
        "longestGap": round(max(report.longest_gap, report.longest_stall), 3),
        "gaps": gaps,
        "marks": [{"at": round(r.at - origin, 3), "what": r.why} for r in report.resets],
        **said,
    }
