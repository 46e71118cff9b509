"""Figures: what tests compare is kept beside the verdict, and read back for drawing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers import figures
from helpers.matrix import Cell, Matrix, decide
from helpers.model import Family
from helpers.probes import Outcome
from reports.figures import Changes, Matrices, Timeline, parse
from reports.model import read
from tests.results.conftest import Project

A = Cell("pod on a", "pod on b", Family.IPV6, "tcp")
B = Cell("pod on b", "pod on a", Family.IPV6, "tcp")
COMPARES = """
from helpers.matrix import Cell, Matrix, decide
from helpers.probes import Outcome
def test_conn_002_pods(family):
    cell = Cell("pod on a", "pod on b", family, "tcp")
    seen = Outcome.REACHED if family == "ipv4" else Outcome.TIMEOUT
    decide(Matrix({cell: seen}, {cell: "no answer"}), Matrix.expecting([cell]))
def test_conn_004_nothing_compared(family):
    pass
"""
TIMELINE = {
    "figure": "timeline",
    "title": "t",
    "started": "2026-01-01T00:00:00Z",
    "seconds": 10.0,
    "lanes": [
        {"path": "p", "flow": "icmp", "family": "ipv4", "end": 10.0, "sent": 100, "lost": 0,
         "longestGap": 0.1}
    ],
}  # fmt: skip


def written(tmp_path: Path, data: object) -> Path:
    path = tmp_path / "figure.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_a_comparison_is_recorded_with_both_sides(tmp_path: Path) -> None:
    figures.drain_matrices()
    with pytest.raises(AssertionError):
        decide(Matrix({A: Outcome.TIMEOUT}, {A: "late"}), Matrix.expecting([A, B]))
    figure = parse(written(tmp_path, figures.drain_matrices()))
    assert isinstance(figure, Matrices)
    one, two = figure.matrices[0].cells
    assert (one.observed, one.expected, one.note, one.good) == ("timeout", "reached", "late", False)
    assert (two.observed, two.expected, two.good) == (None, "reached", False)
    assert figures.drain_matrices() is None


def test_the_last_comparisons_of_a_wait_are_kept() -> None:
    figures.drain_matrices()
    for _ in range(figures.MATRICES_KEPT + 1):
        decide(Matrix({A: Outcome.REACHED}), Matrix.expecting([A]))
    decide(Matrix({B: Outcome.REACHED}), Matrix.expecting([B]))
    drained = figures.drain_matrices()
    assert drained is not None
    assert len(drained["matrices"]) == figures.MATRICES_KEPT
    assert drained["matrices"][-1]["cells"][0]["source"] == "pod on b"


def test_matrices_are_evidence_of_every_verdict(project: Project) -> None:
    project.suite(COMPARES, "connectivity/test_pods.py")
    run = project.run("-n0")
    for family, verdict, seen in (("ipv4", "pass", "reached"), ("ipv6", "fail", "timeout")):
        entry = run.entry("CONN-002", family)
        assert entry["verdict"] == verdict
        assert f"CONN-002-{family}/matrix.json" in entry["evidence"]
        figure = parse(run.root / f"reports/out/latest/CONN-002-{family}/matrix.json")
        assert isinstance(figure, Matrices)
        assert [cell.observed for cell in figure.matrices[0].cells] == [seen]
        assert run.entry("CONN-004", family)["evidence"] == []
    read(run.root / "reports" / "out" / "latest")


def test_timeline_and_changes_are_read(tmp_path: Path) -> None:
    timeline = parse(written(tmp_path, TIMELINE))
    assert isinstance(timeline, Timeline)
    assert timeline.lanes[0].longest_gap == 0.1
    changes = {"figure": "changes", "title": "c", "changes": [{"where": "n", "what": "w"}]}
    assert isinstance(parse(written(tmp_path, changes)), Changes)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        {},
        {"figure": "unknown"},
        {"figure": "timeline"},
        {**TIMELINE, "lanes": [{"path": "p"}]},
    ],
)
def test_what_is_no_figure_is_left_out(tmp_path: Path, data: Any) -> None:
    assert parse(written(tmp_path, data)) is None
