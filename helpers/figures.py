"""Observations that the report draws. They are kept beside the verdict whatever it is.

A figure is evidence in JSON whose key ``figure`` says what it shows; ``reports.figures`` has the
shape of each. What a test compares with ``helpers.matrix.decide`` is recorded here, because a
comparison knows no fixtures, and is attached to the verdict when the test ends.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from helpers.matrix import Matrix

MATRIX_FILE: Final = "matrix.json"
# A comparison inside a wait is made many times: the last ones are what the verdict rests on.
MATRICES_KEPT: Final = 8

_matrices: list[dict[str, Any]] = []
_lock: Final = threading.Lock()


def record_matrix(observed: Matrix, expected: Matrix) -> None:
    """Remember a comparison of this process's current test."""
    cells = [
        {
            "source": cell.source,
            "target": cell.target,
            "family": cell.family.value,
            "detail": cell.detail,
            "observed": observed[cell].value if cell in observed else None,
            "expected": expected[cell].value if cell in expected else None,
            "note": observed.notes.get(cell, ""),
        }
        for cell in sorted(set(observed) | set(expected))
    ]
    with _lock:
        _matrices.append({"cells": cells})
        del _matrices[:-MATRICES_KEPT]


def drain_matrices() -> dict[str, Any] | None:
    """The comparisons since the last call as one figure; None when there were none."""
    with _lock:
        found = list(_matrices)
        _matrices.clear()
    return {"figure": "matrices", "matrices": found} if found else None
