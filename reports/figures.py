"""What the page draws: evidence in JSON whose key ``figure`` says what it shows.

``matrices``  connectivity that a test compared (``helpers.figures`` writes it)
``timeline``  flows over time with their gaps, and what happened meanwhile
``changes``   what differs between two states of a cluster, e.g. before and after an upgrade

A test attaches figures with ``evidence.attach("timeline.json", {...}, always=True)``; those of a
whole run may lie beside ``results.json``. Times are seconds since the ``started`` of the figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from helpers.model import Verdict
from reports.model import RequirementResult, Results

FamilyOfLane = Literal["ipv4", "ipv6"]
READ_AT_MOST: Final = 4 * 1024 * 1024  # bytes of one figure


class Figure(BaseModel):
    """Base of all parts: camelCase in JSON. More keys may come with later versions."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, validate_by_name=True
    )


class MatrixCell(Figure):
    """A relation that was probed; an outcome that is null was not observed, or not expected."""

    source: str
    target: str
    family: FamilyOfLane
    detail: str = ""
    observed: str | None
    expected: str | None
    note: str = ""

    @property
    def good(self) -> bool:
        return self.observed == self.expected


class ConnectivityMatrix(Figure):
    cells: tuple[MatrixCell, ...]


class Matrices(Figure):
    """What one test compared, in the order it did."""

    figure: Literal["matrices"] = "matrices"
    matrices: tuple[ConnectivityMatrix, ...]


class Gap(Figure):
    """A time in which a flow delivered nothing that was sent; ``cause``: what happened then."""

    start: float
    end: float
    lost: int = 0
    cause: str = ""

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Mark(Figure):
    """Something that happened to a flow at one moment, e.g. a reset."""

    at: float
    what: str


class Lane(Figure):
    """One flow.

    ``verdict`` compares it with its limits; null where none was set. ``longestGap`` and ``lost``
    are two different numbers: a gap is time, a loss is a count.
    """

    path: str = Field(description="e.g. `pod to pod, other node`")
    flow: str = Field(description="class of the flow, e.g. `udp one-way`, `tcp idle`")
    family: FamilyOfLane
    start: float = 0.0
    end: float
    sent: int
    lost: int
    longest_gap: float
    gap_limit: float | None = None
    lost_limit: int | None = None
    verdict: Verdict | None = None
    reason: str = ""
    gaps: tuple[Gap, ...] = ()
    marks: tuple[Mark, ...] = ()


class Event(Figure):
    """Something that happened to the cluster; ``where`` is a node or an object."""

    at: float
    what: str
    where: str = ""
    family: FamilyOfLane | None = None


class Window(Figure):
    """A time with a name, e.g. the one in which a fault was planted or nodes were upgraded."""

    start: float
    end: float
    what: str


class AllowedLoss(Figure):
    """What flows of some classes may lose, and why so much and no more."""

    flows: str
    longest: float = Field(description="seconds of the longest gap or stall")
    lost: float = Field(description="share of what was sent, between 0 and 1")
    resets: int = 0
    reason: str


class Timeline(Figure):
    """Flows, events and windows on one clock."""

    figure: Literal["timeline"] = "timeline"
    title: str
    started: datetime
    seconds: float
    clock_error: float | None = Field(
        default=None, description="seconds that clocks of agents may be apart after correction"
    )
    lanes: tuple[Lane, ...]
    events: tuple[Event, ...] = ()
    windows: tuple[Window, ...] = ()
    limits: tuple[AllowedLoss, ...] = ()


class ChangedThing(Figure):
    """One thing that is not as it was; null where it was not there."""

    where: str
    what: str
    old: str | None = None
    new: str | None = None
    note: str = ""


class Changes(Figure):
    """What an operator must know about the difference of two states."""

    figure: Literal["changes"] = "changes"
    title: str
    old: str = Field(default="Before", description="what the first state is called")
    new: str = "After"
    changes: tuple[ChangedThing, ...]


AnyFigure = Annotated[Matrices | Timeline | Changes, Field(discriminator="figure")]
_ADAPTER: Final[TypeAdapter[Matrices | Timeline | Changes]] = TypeAdapter(AnyFigure)


@dataclass(frozen=True, slots=True)
class Attached:
    """A figure, its file relative to the run, and the verdict it belongs to (None: the run's)."""

    file: str
    figure: Matrices | Timeline | Changes
    result: RequirementResult | None = None


def attached(results: Results, directory: Path) -> list[Attached]:
    """Figures of a run: those of the run itself, then those of verdicts, in the order of results.

    A file that is missing, cut or no figure is left out: it is still linked as evidence.
    """
    found = list(_read(directory, sorted(p.name for p in directory.glob("*.json")), None))
    for result in results.requirements:
        found += _read(directory, (f for f in result.evidence if f.endswith(".json")), result)
    return found


def _read(
    directory: Path, files: Iterable[str], result: RequirementResult | None
) -> Iterator[Attached]:
    root = directory.resolve()
    for name in files:
        path = (directory / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            continue
        figure = parse(path)
        if figure is not None:
            yield Attached(name, figure, result)


def parse(path: Path) -> Matrices | Timeline | Changes | None:
    """A figure from a file, None when it holds none."""
    if path.stat().st_size > READ_AT_MOST:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or "figure" not in data:
            return None
        return _ADAPTER.validate_python(data)
    except (ValueError, ValidationError):
        return None
