"""Connectivity as one value: expected against observed cells, compared once.

``assert observed == expected`` prints only the cells that differ, grouped by what they have in
common (see ``explain_matrix``); ``decide`` also tells a probe that did not run from one that was
not answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import Final

from helpers.figures import record_matrix
from helpers.model import Family
from helpers.probes import Observation, Outcome
from helpers.verdicts import Inconclusive

CELLS_SHOWN: Final = 12
# A cause is named only when there was something to compare it with.
MIN_CELLS_FOR_CAUSE: Final = 2


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One relation that a probe decides.

    Attributes:
        source: where the probe starts, e.g. a node's name.
        target: what it is sent to.
        detail: protocol, port or kind, e.g. ``tcp``.
    """

    source: str
    target: str
    family: Family
    detail: str = ""

    def __str__(self) -> str:
        detail = f" {self.detail}" if self.detail else ""
        return f"{self.family}{detail} {self.source} -> {self.target}"


@dataclass(frozen=True, slots=True, eq=False)
class Matrix(Mapping[Cell, Outcome]):
    """Outcome of each cell. Equal when cells and outcomes are; notes do not count.

    Attributes:
        notes: what the kernel said about a cell, for the message.
    """

    cells: Mapping[Cell, Outcome]
    notes: Mapping[Cell, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", MappingProxyType(dict(self.cells)))
        object.__setattr__(self, "notes", MappingProxyType(dict(self.notes)))

    @classmethod
    def expecting(cls, cells: Iterable[Cell], outcome: Outcome = Outcome.REACHED) -> Matrix:
        """The same outcome everywhere.

        Raises:
            ValueError: there are no cells: such a matrix would be equal to having tested nothing.
        """
        made = {cell: outcome for cell in cells}  # noqa: C420  # reads as what it is
        if not made:
            raise ValueError("an expectation of no cells proves nothing: name the cells")
        return cls(made)

    @classmethod
    def observed(cls, observations: Iterable[tuple[Cell, Observation]]) -> Matrix:
        """From probes.

        Raises:
            ValueError: two probes for one cell.
        """
        cells: dict[Cell, Outcome] = {}
        notes: dict[Cell, str] = {}
        for cell, observation in observations:
            if cell in cells:
                raise ValueError(f"two probes for one cell: {cell}; tell them apart by detail")
            cells[cell] = observation.outcome
            if observation.error:
                notes[cell] = observation.error
        return cls(cells, notes)

    def __getitem__(self, cell: Cell) -> Outcome:
        return self.cells[cell]

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Matrix):
            return NotImplemented
        return dict(self.cells) == dict(other.cells)

    def __hash__(self) -> int:
        return hash(frozenset(self.cells.items()))

    def __repr__(self) -> str:
        counts = Counter(self.cells.values())
        told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
        return f"<Matrix {told or 'empty'}>"

    def __or__(self, other: Matrix) -> Matrix:
        """Both matrices as one; cells of the right one win."""
        return Matrix({**self.cells, **other.cells}, {**self.notes, **other.notes})

    def only(self, wanted: Callable[[Cell], bool]) -> Matrix:
        """The part whose cells are wanted."""
        return Matrix({cell: o for cell, o in self.cells.items() if wanted(cell)}, self.notes)

    def summary(self) -> str:
        """One line for a wait's change log: ``12 reached`` or ``4 reached, 8 timeout (all v6)``."""
        counts = Counter(self.cells.values())
        told = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
        bad = [cell for cell, outcome in self.cells.items() if outcome is not Outcome.REACHED]
        causes = _causes(bad, list(self.cells))
        return f"{told} ({', '.join(causes)})" if causes else told


class Differs(AssertionError):  # noqa: N818  # a verdict, not an error
    """An observation is not as expected; carries both."""

    def __init__(self, message: str, observed: Matrix, expected: Matrix) -> None:
        super().__init__(message)
        self.observed = observed
        self.expected = expected


def decide(observed: Matrix, expected: Matrix) -> None:
    """Demand that the observation is as expected. The report draws what was compared.

    Raises:
        Differs: an AssertionError: at least one cell that was really probed differs.
        Inconclusive: all cells that differ are probes that did not run.
    """
    record_matrix(observed, expected)
    if observed == expected:
        return
    differing = _differing(observed, expected)
    message = "\n".join(explain_matrix(observed, expected))
    if all(observed.get(cell) is Outcome.INCONCLUSIVE for cell in differing):
        raise Inconclusive(message)
    raise Differs(message, observed, expected)


def explain_matrix(left: Matrix, right: Matrix) -> list[str]:
    """Lines that say what differs: left as observed, right as expected.

    Only differing cells are listed, folded when the same thing happened from one source to several
    targets. The causes name what all differing cells share and no good cell has.
    """
    cells = sorted(set(left) | set(right))
    differing = _differing(left, right)
    lines = [f"connectivity differs in {len(differing)} of {len(cells)} cells"]
    causes = _causes(differing, cells)
    if causes:
        lines.append("in common: " + ", ".join(causes))
    lines += _fine(differing, cells)
    grouped = _folded(left, right, differing)
    lines += grouped[:CELLS_SHOWN]
    if len(grouped) > CELLS_SHOWN:
        lines.append(f"... {len(grouped) - CELLS_SHOWN} more lines like these")
    return lines


def _differing(left: Matrix, right: Matrix) -> list[Cell]:
    return sorted(c for c in set(left) | set(right) if left.get(c) != right.get(c))


_FACETS: Final[tuple[tuple[str, Callable[[Cell], str]], ...]] = (
    ("{}", lambda cell: cell.family),
    ("{}", lambda cell: cell.detail),
    ("from {}", lambda cell: cell.source),
    ("to {}", lambda cell: cell.target),
    ("{}", lambda cell: f"{cell.source} -> {cell.target}"),
)


def _causes(bad: list[Cell], every: list[Cell]) -> list[str]:
    """What all bad cells share, as far as good cells show that it matters.

    ``all ipv6`` when every cell of that kind is bad, ``only ipv6`` when some of them are good.
    """
    if not bad:
        return []
    if len(bad) == len(every):
        return ["everything"] if len(every) >= MIN_CELLS_FOR_CAUSE else []
    causes: list[str] = []
    pair_named = False
    for template, facet in reversed(_FACETS):
        shared = {facet(cell) for cell in bad}
        kinds = {facet(cell) for cell in every}
        if len(shared) != 1 or len(kinds) < MIN_CELLS_FOR_CAUSE:
            continue
        if pair_named and template != "{}":
            continue  # the direction says both ends already
        (kind,) = shared
        pair_named = pair_named or " -> " in kind
        of_kind = [cell for cell in every if facet(cell) == kind]
        causes.append(f"{'all' if len(of_kind) == len(bad) else 'only'} {template.format(kind)}")
    return causes[::-1]


def _fine(bad: list[Cell], every: list[Cell]) -> list[str]:
    """Says which neighbouring cells are good: that is what narrows a cause down."""
    broken = set(bad)
    known = set(every)
    others: dict[str, set[Cell]] = {
        "the same paths over the other family": {
            Cell(c.source, c.target, c.family.other, c.detail) for c in bad
        },
        "the opposite direction": {Cell(c.target, c.source, c.family, c.detail) for c in bad},
    }
    lines = []
    for what, cells in others.items():
        probed = cells & known
        if probed and not probed & broken:
            lines.append(f"{what}: fine ({len(probed)} of {len(probed)})")
    return lines


def _folded(left: Matrix, right: Matrix, differing: list[Cell]) -> list[str]:
    """One line for each source, family, detail and kind of difference."""

    def key(cell: Cell) -> tuple[str, str, str, str]:
        return (cell.family, cell.detail, cell.source, _difference(left, right, cell))

    lines = []
    for (family, detail, source, difference), group in groupby(sorted(differing, key=key), key):
        cells = list(group)
        targets = ", ".join(cell.target for cell in cells)
        said = sorted({left.notes[cell] for cell in cells if cell in left.notes})
        note = f" ({said[0]}{', ...' if len(said) > 1 else ''})" if said else ""
        kind = f"{family} {detail}".strip()
        lines.append(f"  {kind} {source} -> {targets}: {difference}{note}")
    return lines


def _difference(left: Matrix, right: Matrix, cell: Cell) -> str:
    if cell not in left:
        return f"was not probed, expected {right[cell]}"
    if cell not in right:
        return f"{left[cell]}, was not expected at all"
    return f"{left[cell]}, expected {right[cell]}"
