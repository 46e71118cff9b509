"""Connectivity as grids: IPv4, IPv6, and where the two differ."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from helpers.model import FAMILIES, Verdict
from reports.figures import Attached, Matrices, MatrixCell

CELL: Final = 30.0  # side of a cell, in units of the drawing
CHARACTER: Final = 6.7  # width of one of a label, at most
MARGIN: Final = 4.0
LETTER: Final = 24.0  # width of a row's letter
HEAD: Final = 24.0  # height of the column heads
LABEL_AT_MOST: Final = 34  # characters; the whole label is in the tooltip
REACHED: Final = "reached"
NOT_RUN: Final = "inconclusive"


class Look(StrEnum):
    """How a cell is drawn; each has a sign of its own beside its colour."""

    GOOD = "good"  # reached, as required
    DENIED = "denied"  # not reached, as required
    BAD = "bad"
    UNKNOWN = "unknown"  # a probe did not run
    ABSENT = "absent"  # no such relation, or not probed
    SAME = "same"  # of a difference: both families alike


SIGNS: Final[Mapping[Look, str]] = {
    Look.GOOD: "✓",
    Look.DENIED: "⊘",
    Look.BAD: "✕",
    Look.UNKNOWN: "?",
    Look.ABSENT: "",
    Look.SAME: "=",
}


@dataclass(frozen=True, slots=True)
class Square:
    x: float
    y: float
    look: Look
    sign: str
    tip: str


@dataclass(frozen=True, slots=True)
class Head:
    x: float
    y: float
    text: str
    tip: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One grid. Rows are sources, columns are targets named by letters."""

    title: str
    said: str  # what it shows, for those who do not see it
    width: float
    height: float
    columns: tuple[Head, ...]
    rows: tuple[Head, ...]
    letters: tuple[Head, ...]  # of rows that are columns as well
    squares: tuple[Square, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """The panels of one comparison, and what its letters stand for."""

    id: str
    title: str
    verdict: Verdict
    panels: tuple[Panel, ...]
    letters: tuple[tuple[str, str], ...]
    details: tuple[str, ...]
    good: int
    total: int


Key = tuple[str, str]  # source, target


@dataclass(frozen=True, slots=True)
class _Axes:
    """Sources and targets of all families together, so that the panels can be compared."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    short: Mapping[str, str]

    @property
    def letters(self) -> Mapping[str, str]:
        return {target: _letter(index) for index, target in enumerate(self.targets)}

    @property
    def gutter(self) -> float:
        """Width of the labels of rows; their letters stand between them and the cells."""
        return LETTER + MARGIN + CHARACTER * max(len(self.short[s]) for s in self.sources)


def drawings(figures: Iterable[Attached], nodes: Sequence[str] = ()) -> list[Drawing]:
    """One for each comparison; the families of a requirement stand side by side.

    Args:
        nodes: names of the cluster's nodes, to shorten them in labels.
    """
    found: dict[tuple[str, int], list[tuple[Attached, Sequence[MatrixCell]]]] = {}
    for each in figures:
        if isinstance(each.figure, Matrices) and each.result is not None:
            for number, matrix in enumerate(each.figure.matrices):
                if matrix.cells:
                    found.setdefault((each.result.id, number), []).append((each, matrix.cells))
    return [_drawing(parts, nodes) for parts in found.values()]


def _drawing(
    parts: Sequence[tuple[Attached, Sequence[MatrixCell]]], nodes: Sequence[str]
) -> Drawing:
    cells = [cell for _, each in parts for cell in each]
    axes = _axes(cells, nodes)
    by_family = {f: _by_key(c for c in cells if c.family == f) for f in FAMILIES}
    shown = {family: keyed for family, keyed in by_family.items() if keyed}
    panels = [_panel(f.kubernetes, axes, _squares(axes, keyed)) for f, keyed in shown.items()]
    if len(shown) == len(FAMILIES):
        panels.append(_panel("Difference", axes, _differences(axes, *by_family.values())))
    results = [attached.result for attached, _ in parts if attached.result is not None]
    return Drawing(
        id=results[0].id,
        title=results[0].title,
        verdict=Verdict.worst(result.verdict for result in results),
        panels=tuple(panels),
        letters=tuple((letter, axes.short[t]) for t, letter in axes.letters.items()),
        details=tuple(dict.fromkeys(cell.detail for cell in cells if cell.detail)),
        good=sum(cell.good for cell in cells),
        total=len(cells),
    )


def _axes(cells: Sequence[MatrixCell], nodes: Sequence[str]) -> _Axes:
    sources = tuple(dict.fromkeys(cell.source for cell in cells))
    reached = dict.fromkeys(cell.target for cell in cells)
    # What is source and target has the same place in rows and columns: the diagonal is "itself".
    targets = (*(s for s in sources if s in reached), *(t for t in reached if t not in sources))
    return _Axes(sources, targets, shortened([*sources, *targets], nodes))


def shortened(labels: Iterable[str], nodes: Sequence[str]) -> dict[str, str]:
    """Labels with the short names of nodes: ``pod on dsc-dev-worker`` is ``pod on worker``."""
    names = sorted(short_names(nodes).items(), key=lambda pair: -len(pair[0]))
    found = {}
    for label in labels:
        text = label
        for name, short in names:
            text = text.replace(name, short)
        found[label] = _cut(text)
    return found


def short_names(nodes: Sequence[str]) -> dict[str, str]:
    """Names without the words that all of them begin with (the name of the cluster)."""
    if len(nodes) < 2:
        return {name: name for name in nodes}
    words = [name.split("-") for name in nodes]
    shared = 0
    while all(len(each) > shared + 1 for each in words) and len({w[shared] for w in words}) == 1:
        shared += 1
    return {name: "-".join(each[shared:]) for name, each in zip(nodes, words, strict=True)}


def _cut(label: str) -> str:
    if len(label) <= LABEL_AT_MOST:
        return label
    half = LABEL_AT_MOST // 2 - 1
    return f"{label[:half]} … {label[-half:]}"


def _letter(index: int) -> str:
    alphabet = string.ascii_lowercase
    more = index // len(alphabet)
    return (alphabet[more - 1] if more else "") + alphabet[index % len(alphabet)]


def _by_key(cells: Iterable[MatrixCell]) -> dict[Key, list[MatrixCell]]:
    found: dict[Key, list[MatrixCell]] = {}
    for cell in cells:
        found.setdefault((cell.source, cell.target), []).append(cell)
    return found


def _panel(title: str, axes: _Axes, squares: Sequence[Square]) -> Panel:
    left = axes.gutter
    columns = [
        Head(left + CELL * (index + 0.5), HEAD - 8, letter, target)
        for index, (target, letter) in enumerate(axes.letters.items())
    ]
    rows = [
        Head(left - LETTER, HEAD + CELL * (index + 0.5), axes.short[source], source)
        for index, source in enumerate(axes.sources)
    ]
    letters = [
        Head(left - LETTER / 2, HEAD + CELL * (index + 0.5), axes.letters[source], source)
        for index, source in enumerate(axes.sources)
        if source in axes.letters
    ]
    looks = [square.look for square in squares if square.look is not Look.ABSENT]
    bad = sum(look in (Look.BAD, Look.UNKNOWN) for look in looks)
    return Panel(
        title=title,
        said=f"{title}: {len(looks) - bad} of {len(looks)} relations as they should be",
        width=left + CELL * len(axes.targets) + 2,
        height=HEAD + CELL * len(axes.sources) + 2,
        columns=tuple(columns),
        rows=tuple(rows),
        letters=tuple(letters),
        squares=tuple(squares),
    )


def _positions(axes: _Axes) -> Iterable[tuple[Key, float, float]]:
    for row, source in enumerate(axes.sources):
        for column, target in enumerate(axes.targets):
            yield (source, target), axes.gutter + CELL * column, HEAD + CELL * row


def _squares(axes: _Axes, keyed: Mapping[Key, Sequence[MatrixCell]]) -> list[Square]:
    squares = []
    for key, x, y in _positions(axes):
        cells = keyed.get(key, ())
        look = _look(cells)
        good = sum(cell.good for cell in cells)
        sign = f"{good}/{len(cells)}" if look is Look.BAD and good else SIGNS[look]
        squares.append(Square(x, y, look, sign, "\n".join([_relation(key), *map(_told, cells)])))
    return squares


def _look(cells: Sequence[MatrixCell]) -> Look:
    if not cells:
        return Look.ABSENT
    differing = [cell for cell in cells if not cell.good]
    if differing:
        unknown = all(cell.observed == NOT_RUN for cell in differing)
        return Look.UNKNOWN if unknown else Look.BAD
    return Look.GOOD if any(cell.observed == REACHED for cell in cells) else Look.DENIED


def _differences(
    axes: _Axes,
    four: Mapping[Key, Sequence[MatrixCell]],
    six: Mapping[Key, Sequence[MatrixCell]],
) -> list[Square]:
    squares = []
    for key, x, y in _positions(axes):
        look, sign, text = _difference(four.get(key, ()), six.get(key, ()))
        squares.append(Square(x, y, look, sign, f"{_relation(key)}\n{text}"))
    return squares


def _difference(four: Sequence[MatrixCell], six: Sequence[MatrixCell]) -> tuple[Look, str, str]:
    if not four and not six:
        return Look.ABSENT, "", "not probed"
    outcomes = [{c.detail: c.observed for c in cells} for cells in (four, six)]
    if outcomes[0] == outcomes[1]:
        return Look.SAME, SIGNS[Look.SAME], "the same in both families"
    bad = [sum(not cell.good for cell in cells) for cells in (four, six)]
    if not four or not six:
        return Look.UNKNOWN, "4" if four else "6", "probed in one family only"
    if bad[0] == bad[1]:
        return Look.BAD, "≠", "the families fail in different ways"
    worse = "4" if bad[0] > bad[1] else "6"
    return (
        Look.BAD,
        worse,
        f"IPv{worse} alone is not as it should be"
        if min(bad) == 0
        else (f"IPv{worse} is further from what it should be"),
    )


def _relation(key: Key) -> str:
    return f"{key[0]} → {key[1]}"


def _told(cell: MatrixCell) -> str:
    name = f"{cell.detail}: " if cell.detail else ""
    seen = cell.observed or "not probed"
    told = f"{name}{seen}" if cell.good else f"{name}{seen}, expected {cell.expected}"
    return f"{told} ({cell.note})" if cell.note else told
