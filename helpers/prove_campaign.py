"""All faults of a run, in rounds of those that can be planted together.

A round plants, decides, and heals. Whether everything is green again is decided once for a few
rounds (a chapter): sessions are what takes the time, and the requirements of rounds overlap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from helpers.faults.comparison import share
from helpers.faults.expectations import Expectation
from helpers.faults.grouping import rounds, split
from helpers.prove import Finding, Prover

CHAPTER: Final = 3  # rounds; more of them, and what does not heal would be noticed late
CHAPTER_SECONDS: Final = 150.0  # no round begins later: a run that is ended loses its chapter
ROUND_FILE: Final = "round.json"


class Campaign:
    """Findings about faults, each had when it is asked for.

    Args:
        rows: what is to be planted, in the order in which it is asked for.
        sample: requirements that run beside every fault.
        alone: one fault at a time.
    """

    def __init__(
        self,
        prover: Prover,
        rows: Sequence[Expectation],
        sample: Sequence[str],
        *,
        alone: bool = False,
    ) -> None:
        self.prover = prover
        self.sample = sample
        able = [row for row in rows if prover.why_not(row) is None]
        self.left = [[row] for row in able] if alone else rounds(able, prover.outlook(able))
        self._found: dict[str, Finding] = {}
        self._told: set[str] = set()
        self._open: list[tuple[list[Expectation], Finding]] = []  # rounds of this chapter

    def finding(self, row: Expectation) -> Finding:
        """What came of a fault.

        Raises:
            CannotPlantError: the cluster lacks what it needs.
            KeyboardInterrupt: the run is ended; what was planted is healed before.
        """
        while row.id not in self._found:
            self._chapter(row)
        return self._found[row.id]

    def untold(self) -> list[Finding]:
        """Findings since this was last asked."""
        new = [found for name, found in self._found.items() if name not in self._told]
        self._told |= self._found.keys()
        return new

    def unfinished(self) -> list[Finding]:
        """Of a run that was ended: what was compared and healed, but not seen green again."""
        error = "the run was ended before it was seen green again"
        return [
            replace(_share(whole, row, rows), error=error)
            for rows, whole in self._open
            for row in rows
            if row.id not in self._found
        ]

    def _chapter(self, row: Expectation) -> None:
        """The round of a fault and some that follow; those with surprises come again later."""
        began = monotonic()
        rows = next((r for r in self.left if row in r), [row])
        self._open = []
        while True:
            if rows in self.left:
                self.left.remove(rows)
            whole = self.prover.prove(rows, self.sample)
            self._open.append((rows, whole))
            self._write(rows, whole)
            long = len(self._open) == CHAPTER or monotonic() - began > CHAPTER_SECONDS
            if long or not whole.healed or not self.left:
                break
            rows = self.left[0]
        self.prover.green_again([whole for _, whole in self._open])
        for rows, whole in reversed(self._open):
            self._conclude(rows, whole)
        self._open = []

    def _conclude(self, rows: list[Expectation], whole: Finding) -> None:
        """Findings of each fault of a round; those that were not proved are planted apart."""
        found = whole.comparison
        if len(rows) == 1:
            self._found[rows[0].id] = whole
            return
        again: list[list[Expectation]] = []
        if found is None and whole.healed:
            again = [[row] for row in rows]
        elif found is not None and not found.exact and whole.healed:
            again = split(rows, found)
        self.left = [*again, *self.left]
        repeated = {row.id for each in again for row in each}
        for row in rows:
            if row.id not in repeated:
                self._found[row.id] = _share(whole, row, rows)

    def _write(self, rows: Sequence[Expectation], whole: Finding) -> None:
        """What a round showed, for whoever looks while the run goes on, or after it was ended."""
        folder = self.prover.place_of(whole.row.id)
        folder.mkdir(parents=True, exist_ok=True)
        told = whole.to_json() | {"planted": [row.id for row in rows]}
        (folder / ROUND_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _share(whole: Finding, row: Expectation, rows: Sequence[Expectation]) -> Finding:
    """The part of one fault in the finding about several."""
    found = whole.comparison
    mine = {*row.must, *row.may}
    return replace(
        whole,
        row=row,
        comparison=share(found, row, whole.seen) if found else None,
        still_red=tuple(key for key in whole.still_red if key in mine),
        together=tuple(other.id for other in rows if other is not row),
    )
