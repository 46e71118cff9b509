"""docs/extension-headers.md: what became of each packet in a real run, beside what RFCs say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from helpers.model import FAMILIES, Family
from helpers.packet_matrix.expected import Expected, expectations
from reports.model import Results, ResultsError

PAGE: Final = Path("docs/extension-headers.md")
EVIDENCE: Final = "packets.json"
REQUIREMENT: Final = "PKT-022"
# Columns, in the order of the table: the kinds of ways.
KINDS: Final = (
    "same node",
    "other node",
    "to the outside",
    "from the outside",
    "ClusterIP",
    "NodePort",
)
TITLES: Final = {
    Family.IPV6: "IPv6: extension headers, fragments, checksums",
    Family.IPV4: "IPv4: options, fragments, checksums",
}

Row = Mapping[str, Any]


def rows_of(run: Path) -> list[Row]:
    """The cells that a run recorded.

    Raises:
        ResultsError: the run has none: it did not decide PKT-022.
    """
    found: list[Row] = []
    for family in FAMILIES:
        file = run / f"{REQUIREMENT}-{family}" / EVIDENCE
        if not file.is_file():
            raise ResultsError(f"{run} has no {file.relative_to(run)}: run {REQUIREMENT} first")
        found += json.loads(file.read_text(encoding="utf-8"))
    return found


def page(results: Results, rows: Sequence[Row]) -> str:
    """The page of one run."""
    parts = [
        "# Extension headers on the ways of a cluster",
        "",
        "Made from a real run by `python -m reports packets --write`; do not edit.",
        "",
        _where(results),
        "",
        f"{len(rows)} cells, each a packet (or a few fragments) in UDP or in an ICMP echo on one",
        "way, decided by what the receiver's stack answered and by frames captured on every",
        "interface between. `delivered`: the receiver's own stack answered. `silent`: it came to",
        "the receiver's interface and nothing followed. `dropped`: lost before that. `error 4/1`:",
        "type and code of the ICMP error that came back, and from whom. **Bold** is where the",
        "RFC wants something else; the notes below say why. A dash: not sent on that way.",
    ]
    for family in (Family.IPV6, Family.IPV4):
        parts += ["", f"## {TITLES[family]}", "", *_table(family, rows)]
        parts += ["", *_notes(family)]
    return "\n".join(parts).rstrip() + "\n"


def _where(results: Results) -> str:
    cluster = results.cluster
    if cluster is None:
        raise ResultsError("the run knows nothing of its cluster")
    kernels = sorted({node.kernel for node in cluster.nodes if node.kernel})
    modes = sorted({node.proxy_mode for node in cluster.nodes if node.proxy_mode})
    return (
        f"Kubernetes {cluster.kubernetes}, Calico {cluster.calico}, kube-proxy "
        f"{', '.join(modes)}, Linux {', '.join(kernels)}, {len(cluster.nodes)} nodes, "
        f"{results.run.started:%Y-%m-%d}."
    )


def _table(family: Family, rows: Iterable[Row]) -> list[str]:
    cells: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row["family"] == family.value:
            cells[row["shape"], row["kind"]][row["outcome"]] = None
    known = expectations()[family]
    lines = ["| packet | the RFC says | " + " | ".join(KINDS) + " |", "|---" * 8 + "|"]
    for shape, expected in known.items():
        told = [_cell(expected, cells.get((shape, kind), {})) for kind in KINDS]
        wanted = f"{' or '.join(expected.expect)} ({expected.source})"
        lines.append(f"| {expected.words} | {wanted} | " + " | ".join(told) + " |")
    return lines


def _cell(expected: Expected, outcomes: Iterable[str]) -> str:
    told = [
        outcome if _wanted(outcome, expected) else f"**{outcome}**" for outcome in sorted(outcomes)
    ]
    return ", ".join(told) or "-"


def _wanted(outcome: str, expected: Expected) -> bool:
    return any(outcome == one or outcome.startswith(f"{one} from") for one in expected.expect)


def _notes(family: Family) -> list[str]:
    return [
        f"- {one.words}: {one.known.why} ({one.known.source})."
        for one in expectations()[family].values()
        if one.known
    ]
