"""Results as a run would have left them, from a few words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from helpers.model import Level, Verdict
from helpers.requirements import requirements
from reports.diagnosis import diagnose
from reports.model import Cell, ClusterInfo, Diagnosis, RequirementResult, Results, RunInfo, Summary

NODES = ("n1", "n2", "n3")
ADDRESSES = {node: (f"10.243.0.{n}", f"fd00:10:243::{n}") for n, node in enumerate(NODES, 2)}


def cluster(**facts: Any) -> ClusterInfo:
    nodes = [
        {
            "name": node,
            "proxyMode": "nftables",
            "kernel": "6.18",
            "addresses": ADDRESSES[node],
            "cniAssigns": ("ipv4", "ipv6"),
        }
        for node in NODES
    ]
    return ClusterInfo.model_validate({"name": "c", "nodes": nodes, **facts})


def result(
    name: str,
    family: str,
    verdict: str = "fail",
    *findings: str,
    cells: Sequence[Cell] = (),
    blocked_by: str | None = None,
) -> RequirementResult:
    requirement = requirements()[name]
    return RequirementResult(
        id=name,
        family=family,  # type: ignore[arg-type]
        profile=requirement.level,
        group=requirement.group,
        title=requirement.title,
        verdict=Verdict(verdict),
        reason="\n".join(findings),
        seconds=1.0,
        test=f"suites/x.py::test_{name}",
        findings=findings,
        cells=tuple(cells),
        blocked_by=blocked_by,
    )


def run(*results: RequirementResult, info: ClusterInfo | None = None) -> Results:
    nothing: dict[Verdict, int] = {}
    return Results(
        run=RunInfo(
            id="r",
            started=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=1,
            argv=(),
            profile=tuple(Level),
            complete=True,
        ),
        cluster=info or cluster(),
        requirements=results,
        summary=Summary(
            verdicts=nothing,
            by_profile={},
            by_group={},
            not_tested=(),
            exit_code=1,
            exit_reason="",
        ),
    )


def diagnosed(*results: RequirementResult, info: ClusterInfo | None = None) -> list[Diagnosis]:
    return list(diagnose(run(*results, info=info)))


def cell(source: str, target: str, detail: str, good: bool, note: str = "") -> Cell:
    seen = "reached" if good else "timeout"
    return Cell(
        source=source, target=target, detail=detail, observed=seen, expected="reached", note=note
    )


def pod_cells(lost: Sequence[tuple[str, str]], *details: str) -> list[Cell]:
    """Cells of paths between the pods of all ordered pairs of nodes; some of them are lost.

    An echo is lost with its answer, so that it fails both ways; one-way datagrams do not.
    """
    every = [(a, b) for a in NODES for b in NODES if a != b]
    echoes = {*lost, *((b, a) for a, b in lost)}
    found = [
        cell(f"pod on {a}", f"pod on {b}", detail, (a, b) not in echoes)
        for detail in details or ("tcp", "udp")
        for a, b in every
    ]
    return found + [
        cell(
            f"pod on {a}",
            f"pod on {b}",
            "one-way udp",
            (a, b) not in lost,
            "" if (a, b) not in lost else "0/20 datagrams arrived",
        )
        for a, b in every
    ]
