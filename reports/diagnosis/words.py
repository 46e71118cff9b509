"""Asymmetry in words: which family, direction, node, protocol or kind of Service is concerned.

What is fine beside a failure narrows it down; each sentence names both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from helpers.model import FAMILIES, Family, Verdict
from reports.diagnosis.case import Case
from reports.model import Cell, RequirementResult

# Requirements about one kind of path each: failing and passing ones of a pair are a sentence.
CONTRASTS: Final = (
    ("CONN-002", "CONN-001", "between nodes only: pods of one node reach each other"),
    ("CONN-001", "CONN-002", "within a node only: pods of different nodes reach each other"),
    ("CONN-002", "CFG-009", "pods only: the nodes themselves reach each other"),
    ("EGR-001", "CONN-002", "to the outside only: pods reach each other"),
    ("EGR-002", "CONN-002", "to the outside only: pods reach each other"),
    ("SVC-007", "CONN-002", "Services only: pods reach each other directly"),
    ("SVC-010", "SVC-007", "NodePorts only: clusterIPs answer"),
    ("SVC-007", "SVC-010", "clusterIPs only: NodePorts answer"),
    ("CONN-009", "CONN-002", "large transfers only: small requests are answered"),
)
# Requirements whose cells are paths from one node to another.
PATHS: Final = ("CONN-002", "CONN-003", "CONN-011", "CONN-012", "CFG-009", "CONN-009", "EGR-011")


@dataclass(frozen=True, slots=True)
class Loss:
    """Where packets between nodes are lost.

    Attributes:
        path: in words, e.g. ``from pods on a to pods on b``.
        nodes: that it concerns.
        at: the one node that all losses have in common, at the end where they are lost.
        opposite_works: the other direction of every lost one is fine.
    """

    path: str
    nodes: tuple[str, ...]
    at: str | None
    opposite_works: bool


def losses(case: Case, cells: Sequence[Cell]) -> Loss | None:
    """What the cells of paths between nodes say together; None: none of them is lost.

    A lost answer looks like a lost request, except to one-way cells: where there are any, they
    decide about the direction.
    """
    one_way = [c for c in cells if c.detail.startswith("one-way")]
    bad, fine = _between(case, one_way or cells)
    if not bad:
        bad, fine = _between(case, cells)
    if not bad:
        return None
    sources, targets = sorted({a for a, _ in bad}), sorted({b for _, b in bad})
    back = {(b, a) for a, b in bad}
    opposite = bool(one_way) and back <= fine
    nodes = tuple(sorted({*sources, *targets}))
    if len(bad) == 1:
        path = f"from pods on {sources[0]} to pods on {targets[0]}"
        return Loss(path, nodes, targets[0], opposite)
    if len(targets) == 1:
        return Loss(
            f"from pods on other nodes to pods on {targets[0]}", nodes, targets[0], opposite
        )
    if len(sources) == 1:
        return Loss(
            f"from pods on {sources[0]} to pods on other nodes", nodes, sources[0], opposite
        )
    common = set.intersection(*({a, b} for a, b in bad))
    if len(common) == 1 and fine:
        (node,) = common
        return Loss(f"from and to pods on {node}", nodes, node, False)
    return Loss("between pods of different nodes", nodes, None, False)


def _between(
    case: Case, cells: Iterable[Cell]
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Ordered pairs of different nodes with a bad cell, and those without one."""
    paths = [(case.node_of(c.source), case.node_of(c.target), c.good) for c in cells]
    between = [(a, b, good) for a, b, good in paths if a and b and a != b]
    bad = {(a, b) for a, b, good in between if not good}
    return bad, {(a, b) for a, b, good in between if good} - bad


def asymmetry(case: Case, concerned: Sequence[RequirementResult]) -> tuple[str, ...]:
    """Sentences about some failed results, which have one cause."""
    failed = [r for r in concerned if r.verdict is Verdict.FAIL]
    found = [*_families(case, failed), *_contrasts(case, failed)]
    cells = [cell for r in failed if r.id in PATHS for cell in r.cells]
    if any(not cell.good for cell in cells):
        found += _places(case, cells)
        found += _kinds(cells)
    return tuple(found)


def _families(case: Case, failed: Sequence[RequirementResult]) -> Iterable[str]:
    """``IPv6 only``: what fails over one family and passes over the other."""
    per_family = {f: {r.id for r in failed if r.family == f.value} for f in FAMILIES}
    concerned = [family for family, ids in per_family.items() if ids]
    if len(concerned) == 2:
        yield "both families"
        return
    for family in concerned:
        judged = sorted(per_family[family])
        fine = [name for name in judged if case.passed(name, family.other)]
        if fine and len(fine) == len([n for n in judged if case.result(n, family.other)]):
            told = ", ".join(fine) if len(fine) <= 4 else f"the same {len(fine)} requirements"
            word = "passes" if len(fine) == 1 else "pass"
            yield f"{family.kubernetes} only: over {family.other.kubernetes} {told} {word}"


def _contrasts(case: Case, failed: Sequence[RequirementResult]) -> Iterable[str]:
    told = set()
    for result in failed:
        family = Family(result.family) if result.family != "pair" else Family.IPV4
        for bad, good, sentence in CONTRASTS:
            if result.id == bad and case.passed(good, family) and sentence not in told:
                told.add(sentence)
                yield f"{sentence} ({good} passes)"


def _places(case: Case, cells: Sequence[Cell]) -> Iterable[str]:
    """Direction and node, from cells that are paths between nodes."""
    one_way = [c for c in cells if c.detail.startswith("one-way")]
    bad, fine = _between(case, one_way)
    if not bad:  # answers are lost with their requests: cells of both directions are bad
        bad, fine = _between(case, cells)
    if not bad:
        return
    if len(bad) == 1:
        ((source, target),) = bad
        if (target, source) in fine:
            yield f"one direction: {source} -> {target} fails, {target} -> {source} works"
        return
    yield from _one_node(bad, fine)


def _one_node(bad: set[tuple[str, str]], fine: set[tuple[str, str]]) -> Iterable[str]:
    sources, targets = {a for a, _ in bad}, {b for _, b in bad}
    common = set.intersection(*({a, b} for a, b in bad))
    if len(sources) == 1:
        (node,) = sources
        yield f"one direction: from {node} to others; " + _opposite(bad, fine)
    elif len(targets) == 1:
        (node,) = targets
        yield f"one direction: to {node} from others; " + _opposite(bad, fine)
    elif len(common) == 1 and fine:
        (node,) = common
        yield f"one node: only paths from and to {node}, other nodes reach each other"
    elif not fine:
        yield "every pair of nodes"


def _opposite(bad: set[tuple[str, str]], fine: set[tuple[str, str]]) -> str:
    back = {(b, a) for a, b in bad}
    return "the opposite direction works" if back <= fine else "the opposite is not all fine"


def _kinds(cells: Sequence[Cell]) -> Iterable[str]:
    """Protocols or sizes: those that fail everywhere they fail, and those that never do."""
    bad = {cell.detail for cell in cells if not cell.good}
    fine = {cell.detail for cell in cells if cell.good} - bad
    if bad and fine:
        yield f"{', '.join(sorted(bad))} only: {', '.join(sorted(fine))} passes"
