"""One run as the rules see it: verdicts, findings, cells and facts, asked by requirement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from helpers.model import Family, Verdict
from reports.model import Cell, ClusterInfo, RequirementResult, Results
from reports.summarize import Key

# What a rule binds: the node, pool or address that it is about; several of each.
Values = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """A run. Results of a pair count for both families."""

    results: Results

    @property
    def cluster(self) -> ClusterInfo | None:
        return self.results.cluster

    @cached_property
    def _by_key(self) -> Mapping[Key, RequirementResult]:
        return {result.key: result for result in self.results.requirements}

    def result(self, requirement: str, family: Family) -> RequirementResult | None:
        """The result of a requirement in a family; None: it was not decided in this run."""
        found = self._by_key.get((requirement, family.value))
        return found or self._by_key.get((requirement, "pair"))

    def verdict(self, requirement: str, family: Family) -> Verdict | None:
        found = self.result(requirement, family)
        return found.verdict if found else None

    def failed(self, requirement: str, family: Family) -> bool:
        return self.verdict(requirement, family) is Verdict.FAIL

    def passed(self, requirement: str, family: Family) -> bool:
        return self.verdict(requirement, family) is Verdict.PASS

    def findings(self, requirement: str, family: Family) -> tuple[str, ...]:
        """Sentences of a failure; lines of its reason where it was no list of findings."""
        found = self.result(requirement, family)
        if found is None or found.verdict is not Verdict.FAIL:
            return ()
        return found.findings or tuple(
            line.strip().removeprefix("- ") for line in found.reason.splitlines() if line.strip()
        )

    def said(self, requirement: str, family: Family) -> str:
        """A failure in one sentence: its first finding, or the paths that it is about."""
        bad = [c for c in self.cells(requirement, family) if not c.good]
        if bad:
            told = ", ".join(f"{c.source} -> {c.target} {c.detail}".strip() for c in bad[:3])
            return f"{told}{f' and {len(bad) - 3} more' if len(bad) > 3 else ''}: {bad[0].observed}"
        return next(iter(self.findings(requirement, family)), "no reason given")

    def cells(self, requirement: str, family: Family) -> tuple[Cell, ...]:
        """Cells of a failure, good ones too."""
        found = self.result(requirement, family)
        return found.cells if found and found.verdict is Verdict.FAIL else ()

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes; of those that cells speak of where no facts were observed."""
        if self.cluster and self.cluster.nodes:
            return tuple(node.name for node in self.cluster.nodes)
        ends = (
            end
            for result in self.results.requirements
            for cell in result.cells
            for end in (cell.source, cell.target)
        )
        return unique(end.rpartition(" ")[2] for end in ends if _LABEL.match(end))

    def node_of(self, end: str) -> str | None:
        """The node that an end of a cell is on or is, None for what is on none."""
        return next((node for node in self.nodes if names(end, node)), None)


_LABEL = re.compile(r"(?:node|(?:second )?pod on|backend on) \S+$")


def names(text: str, node: str) -> bool:
    """Whether a text speaks of a node, and not of one whose name only begins like it."""
    return re.search(rf"(?<![\w.-]){re.escape(node)}(?![\w-])", text) is not None


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(values))
