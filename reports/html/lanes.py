"""Times as lanes: flows with their gaps, and waits with their head-room.

Positions are percent of the width, so that a lane can be stretched to any screen; texts are not in
the drawing and keep their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from reports.figures import Attached, Lane, Timeline
from reports.html.matrices import short_names
from reports.model import RequirementResult, Results, Wait

STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
TICKS_AT_MOST: Final = 6
NARROWEST: Final = 0.4  # percent: a gap of 50 ms in ten minutes must be seen
EVENTS_APART: Final = 4.5  # percent that numbers of events need not to cover each other
WAITS_SHOWN: Final = 8
TIGHT: Final = 50.0  # percent of its limit; the terminal's LATE BUT IN TIME


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a lane; ``left`` and ``width`` in percent."""

    left: float
    width: float
    tip: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event: its number stands over the lanes, its text in the list below."""

    number: int
    left: float
    row: int  # numbers that would cover each other stand in different rows
    at: str
    text: str
    where: str
    family: str


@dataclass(frozen=True, slots=True)
class LaneView:
    lane: Lane
    name: str
    there: Span
    gaps: tuple[Span, ...]
    marks: tuple[Span, ...]
    said: str
    longest: str
    lost: str
    limits: str


@dataclass(frozen=True, slots=True)
class TimelineView:
    figure: Timeline
    result: RequirementResult | None
    paths: tuple[tuple[str, tuple[LaneView, ...]], ...]
    ticks: tuple[tuple[float, str], ...]
    windows: tuple[Span, ...]
    events: tuple[Numbered, ...]
    event_rows: int
    clock: str


def timelines(figures: Iterable[Attached], nodes: Sequence[str] = ()) -> list[TimelineView]:
    """All timelines; ``nodes`` are called by what tells them apart."""
    return [
        timeline(_shortened(each.figure, nodes), each.result)
        for each in figures
        if isinstance(each.figure, Timeline) and each.figure.lanes
    ]


def _shortened(figure: Timeline, nodes: Sequence[str]) -> Timeline:
    short = short_names(nodes)

    def said(text: str) -> str:
        for name in sorted(short, key=len, reverse=True):  # worker2 before worker
            text = text.replace(name, short[name])
        return text

    lanes = [lane.model_copy(update={"path": said(lane.path)}) for lane in figure.lanes]
    events = [e.model_copy(update={"where": said(e.where)}) for e in figure.events]
    return figure.model_copy(update={"lanes": tuple(lanes), "events": tuple(events)})


def timeline(figure: Timeline, result: RequirementResult | None = None) -> TimelineView:
    whole = max([figure.seconds, *(lane.end for lane in figure.lanes)]) or 1.0
    by_path = sorted(figure.lanes, key=_path_order([lane.path for lane in figure.lanes]))
    events = _numbered(figure, whole)
    return TimelineView(
        figure=figure,
        result=result,
        paths=tuple(
            (path, tuple(_lane(lane, whole) for lane in lanes))
            for path, lanes in groupby(by_path, key=lambda lane: lane.path)
        ),
        ticks=tuple(_ticks(whole)),
        windows=tuple(
            _span(
                w.start, w.end, whole, f"{w.what}: {_moment(w.start)} to {_moment(w.end)}", w.what
            )
            for w in figure.windows
        ),
        events=tuple(events),
        event_rows=1 + max((event.row for event in events), default=0),
        clock=""
        if figure.clock_error is None
        else f"clocks agree within {seconds(figure.clock_error)}",
    )


def _path_order(paths: Sequence[str]) -> Callable[[Lane], tuple[int, int, str]]:
    order = {path: index for index, path in enumerate(dict.fromkeys(paths))}
    flows: dict[str, int] = {}

    def key(lane: Lane) -> tuple[int, int, str]:
        return order[lane.path], flows.setdefault(lane.flow, len(flows)), lane.family

    return key


def _lane(lane: Lane, whole: float) -> LaneView:
    longest = seconds(lane.longest_gap)
    told = f"{lane.path}, {lane.flow}, {lane.family}: {lane.lost} of {lane.sent} lost, "
    told += f"longest gap {longest}"
    return LaneView(
        lane=lane,
        name=lane.flow,
        there=_span(lane.start, lane.end, whole, told),
        gaps=tuple(
            _span(
                gap.start,
                gap.end,
                whole,
                f"gap of {seconds(gap.seconds)} at {_moment(gap.start)}, {gap.lost} lost"
                + (f": {gap.cause}" if gap.cause else ""),
                seconds(gap.seconds),
            )
            for gap in lane.gaps
        ),
        marks=tuple(
            _span(m.at, m.at, whole, f"{m.what} at {_moment(m.at)}", m.what) for m in lane.marks
        ),
        said=told,
        longest=longest,
        lost=f"{lane.lost}/{lane.sent}",
        limits=_limits(lane),
    )


def _limits(lane: Lane) -> str:
    parts = []
    if lane.gap_limit is not None:
        parts.append(f"gap up to {seconds(lane.gap_limit)}")
    if lane.lost_limit is not None:
        parts.append(f"up to {lane.lost_limit} lost")
    return ", ".join(parts)


def _numbered(figure: Timeline, whole: float) -> list[Numbered]:
    found: list[Numbered] = []
    last: list[float] = []  # right-most position of each row
    for number, event in enumerate(sorted(figure.events, key=lambda e: e.at), start=1):
        left = _percent(event.at, whole)
        row = next((i for i, at in enumerate(last) if left - at >= EVENTS_APART), len(last))
        last[row : row + 1] = [left]
        found.append(
            Numbered(
                number, left, row, _moment(event.at), event.what, event.where, event.family or ""
            )
        )
    return found


def _span(start: float, end: float, whole: float, tip: str, label: str = "") -> Span:
    left = _percent(start, whole)
    width = max(_percent(end, whole) - left, NARROWEST)
    return Span(round(min(left, 100 - width), 3), round(width, 3), tip, label)


def _percent(at: float, whole: float) -> float:
    return round(min(100.0, max(0.0, 100 * at / whole)), 3)


def _ticks(whole: float) -> Iterable[tuple[float, str]]:
    step = next((s for s in STEPS if whole / s <= TICKS_AT_MOST), STEPS[-1])
    count = int(whole / step)
    return [(_percent(step * i, whole), _clock(step * i)) for i in range(count + 1)]


def _clock(at: float) -> str:
    """Of the axis: ``42 s``, ``3:05``, seconds alone below two minutes."""
    return f"{at:g} s" if at < 120 else f"{int(at) // 60}:{int(at) % 60:02d}"


def _moment(at: float) -> str:
    """Of something that happened: ``14.9 s``, ``3:05.2``."""
    return f"{at:.1f} s" if at < 120 else f"{int(at) // 60}:{at % 60:04.1f}"


def seconds(value: float) -> str:
    """``12 ms``, ``3.40 s``, ``2 min 5 s``."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


# -- waits ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitView:
    """One wait that was to end; ``share``: percent of its limit that it used."""

    result: RequirementResult
    wait: Wait
    share: float

    @property
    def tight(self) -> bool:
        return self.share > TIGHT


@dataclass(frozen=True, slots=True)
class Waits:
    """All waits that ended in time, and the tightest of them."""

    every: tuple[WaitView, ...]
    tightest: tuple[WaitView, ...]

    @property
    def tight(self) -> int:
        return sum(each.tight for each in self.every)

    @property
    def median(self) -> float:
        shares = sorted(each.share for each in self.every)
        return shares[len(shares) // 2] if shares else 0.0


def waits(results: Results) -> Waits:
    """Waits that settled. At the limit and good is a promise that something stays: left out."""
    found = [
        WaitView(result, wait, round(100 * wait.waited / wait.within, 2))
        for result in results.requirements
        for wait in result.waits
        if wait.settled and 0 <= wait.waited < wait.within
    ]
    found.sort(key=lambda each: -each.share)
    return Waits(tuple(found), tuple(found[:WAITS_SHOWN]))
