"""Recordings of live runs with a fault planted: the expected cause is named, and no other.

``recorded/F11.json`` is what was observed while fault F11 of ``suites/faults.yaml`` was planted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.faults.expectations import expectations
from reports.diagnosis import diagnose
from reports.model import read

# As --prove names the folder of a fault: CFG-009/drop is in CFG-009-drop.
FAULTS = {name.replace("/", "-"): row for name, row in expectations().items()}
RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


@pytest.mark.parametrize("recording", RECORDED, ids=lambda path: path.stem)
def test_the_planted_cause_is_named_alone(recording: Path) -> None:
    row = FAULTS[recording.stem]
    found = diagnose(read(recording))
    assert [d.rule for d in found] == [row.rule], [d.cause for d in found]
    explained = {(c.id, c.family) for c in found[0].consequences}
    assert set(row.must) <= explained
    assert found[0].evidence
    assert found[0].fix
