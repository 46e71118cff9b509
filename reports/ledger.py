"""The verdicts of a run as they come in; knows no pytest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from helpers.model import Level, Verdict
from helpers.requirements import Requirement
from reports.exit_codes import Ending
from reports.model import (
    RESULTS_FILE,
    Cell,
    ClusterInfo,
    LostAgent,
    NotTested,
    RequirementResult,
    Results,
    RunInfo,
    Wait,
)
from reports.summarize import Key, summarize, untested

# Options without which a test would be skipped, or would decide about something else.
REPEATED: Final = ("--disruptive=", "--calico-roll=", "--bad-upgrade=", "--watched-roll=")


@dataclass(slots=True)
class Ledger:
    """Collects records, makes ``Results`` of them, and writes these to ``directory``."""

    run_id: str
    directory: Path
    root: Path  # of the repository
    started: datetime
    argv: tuple[str, ...]
    profile: tuple[Level, ...]
    requirements: Mapping[str, Requirement]
    expected: dict[str, Key] = field(default_factory=dict)  # node id -> what it decides
    no_cluster: str | None = None
    _decided: dict[str, None] = field(default_factory=dict)  # node ids with a verdict
    _results: dict[Key, RequirementResult] = field(default_factory=dict)
    _cluster: dict[str, Any] = field(default_factory=dict)
    _lost: list[LostAgent] = field(default_factory=list)
    _began: float = field(default_factory=monotonic)

    def add(self, node_id: str, record: Mapping[str, Any]) -> None:
        """Take one record of ``helpers.plugin_results``.

        Several tests of one requirement and family leave the most alarming verdict; times add up,
        and waits and evidence of all of them are kept.
        """
        requirement = self.requirements[record["id"]]
        if record["cluster"]:
            known = self._cluster.get("facts")
            self._cluster = {**record["cluster"], "facts": record["cluster"]["facts"] or known}
        if record["noCluster"] and self.no_cluster is None:
            self.no_cluster = record["reason"].removeprefix("no cluster: ")
        self._lost += [LostAgent(**loss, test=node_id) for loss in record["losses"]]
        self._decided[node_id] = None
        seen = record.get("observed") or {}
        new = RequirementResult(
            id=requirement.id,
            family=record["family"],
            profile=requirement.level,
            group=requirement.group,
            title=requirement.title,
            verdict=Verdict(record["verdict"]),
            reason=record["reason"],
            seconds=record["seconds"],
            test=node_id,
            waits=tuple(Wait(**wait) for wait in record["waits"]),
            evidence=tuple(record["evidence"]),
            findings=tuple(seen.get("findings", ())),
            cells=tuple(Cell(**cell) for cell in seen.get("cells", ())),
            blocked_by=seen.get("blockedBy"),
        )
        old = self._results.get(new.key)
        self._results[new.key] = new if old is None else _merged(old, new)

    def results(self, ending: Ending, *, complete: bool) -> Results:
        found = [
            result.model_copy(update={"repeat": self.repeat(result.test)})
            for requirement in self.requirements.values()
            for result in (self._results.get(key) for key in _keys(requirement))
            if result is not None
        ]
        return Results(
            run=RunInfo(
                id=self.run_id,
                started=self.started,
                seconds=round(monotonic() - self._began, 3),
                argv=self.argv,
                profile=self.profile,
                complete=complete,
            ),
            cluster=self._cluster_info(),
            requirements=tuple(found),
            lost_agents=tuple(self._lost),
            summary=summarize(found, self._not_tested() if complete else (), ending),
        )

    def write(self, ending: Ending, *, complete: bool) -> Results:
        """Write ``results.json``; the directory and the ``latest`` link are made when missing."""
        self.directory.mkdir(parents=True, exist_ok=True)
        results = self.results(ending, complete=complete)
        results.write(self.directory / RESULTS_FILE)
        return results

    @property
    def missing(self) -> list[str]:
        """Node ids of collected tests that have no verdict."""
        return [node_id for node_id in self.expected if node_id not in self._decided]

    def repeat(self, node_id: str) -> str:
        """The command that runs one test again, on the same cluster where that is possible."""
        words = ["pytest", f"'{node_id}'", "-n0"]
        words += [word for word in self.argv if word.startswith(REPEATED)]
        name = self._cluster.get("name")
        if name and self._cluster.get("owned"):
            words.append(f"--reuse-cluster {name}")
        elif name:
            words.append(f"--cluster=existing --kubeconfig {self._cluster['kubeconfig']}")
            if self._cluster.get("context"):
                words.append(f"--context {self._cluster['context']}")
        return " ".join(words)

    def _not_tested(self) -> list[NotTested]:
        return untested(self.requirements, self._results, self.expected.values(), self.root)

    def _cluster_info(self) -> ClusterInfo | None:
        if not self._cluster:
            return None
        declared = self._cluster.get("declared") or {}
        return ClusterInfo.model_validate(
            {
                "name": self._cluster["name"],
                "declared": declared,
                **(self._cluster.get("facts") or {}),
            }
        )


def _keys(requirement: Requirement) -> Iterable[Key]:
    # A verdict of an unexpected family (a pair decided per family) must not vanish.
    return ((requirement.id, "ipv4"), (requirement.id, "ipv6"), (requirement.id, "pair"))


def _merged(old: RequirementResult, new: RequirementResult) -> RequirementResult:
    worst = Verdict.worst((old.verdict, new.verdict))
    kept = old if old.verdict is worst else new
    return kept.model_copy(
        update={
            "seconds": round(old.seconds + new.seconds, 3),
            "waits": old.waits + new.waits,
            "evidence": tuple(dict.fromkeys(old.evidence + new.evidence)),
            "findings": old.findings + new.findings,
            "cells": old.cells + new.cells,
        }
    )
