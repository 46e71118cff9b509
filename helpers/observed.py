"""What a test observed, as data beside the sentence that it failed with.

A reason is for people. The rules that name a cause (``reports.diagnosis``) also need to know which
cells of a matrix differ, which findings there are, and what blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.findings import Found
from helpers.matrix import Differs, Matrix
from helpers.verdicts import Blocked
from helpers.waiting import NotSettled


def observed(error: BaseException | None) -> dict[str, Any]:
    """Plain JSON: ``findings`` (sentences), ``cells`` (of a matrix), ``blockedBy`` (an id).

    Only what the error carries is there; ``{}`` for an error that carries nothing.
    """
    if isinstance(error, Blocked):
        return {"blockedBy": error.by}
    if isinstance(error, Found):
        return {"findings": list(error.findings)}
    if isinstance(error, Differs):
        return {"cells": cells(error.observed, error.expected)}
    if isinstance(error, NotSettled):
        return _last(error.last)
    return {}


def _last(state: object) -> dict[str, Any]:
    """What a wait saw last, where that is findings."""
    if isinstance(state, list) and all(isinstance(line, str) for line in state):
        return {"findings": list(state)}
    return {}


def cells(seen: Matrix, expected: Matrix) -> list[Mapping[str, str]]:
    """All cells, good ones too: what is fine beside a loss says where it is not."""
    return [
        {
            "source": cell.source,
            "target": cell.target,
            "detail": cell.detail,
            "observed": str(seen.get(cell, "absent")),
            "expected": str(expected.get(cell, "absent")),
            "note": seen.notes.get(cell, ""),
        }
        for cell in sorted(set(seen) | set(expected))
    ]
