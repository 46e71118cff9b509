"""The lab's ways for packets."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.model import Family
from helpers.packet_matrix import ways
from helpers.paths import Path
from tests.lab.topology import PODS, Lab

BOTH = (("p1", "p3"), ("p1", "p2"))  # within n1, and from n1 to n2


def lab_ways(lab: Lab, family: Family, pairs: Sequence[tuple[str, str]] = BOTH) -> list[ways.Way]:
    paths = [
        Path(
            lab.agents[a], lab.agents[b], (f"pod {a}", f"pod {b}"),
            (PODS[a].node.name, PODS[b].node.name),
        )
        for a, b in pairs
    ]  # fmt: skip
    nodes = {name: lab.agents[name] for name in ("n1", "n2")}
    return ways.along(paths, family, nodes, [lab.p1, lab.p2, lab.p3])
