"""``results.json``: what a run found, version 1. Written as the run goes, read by everything else.

The JSON Schema made from this module is committed as ``results.schema.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from helpers.model import Level, Verdict
from reports.gate_model import Gate
from reports.parts import Part
from reports.proof_model import Proof

SCHEMA_FILE: Final = Path(__file__).parent / "results.schema.json"
RESULTS_FILE: Final = "results.json"

FamilyName = Literal["ipv4", "ipv6", "pair"]  # pair: one verdict for both families
FAMILY_NAMES: Final[tuple[FamilyName, ...]] = ("ipv4", "ipv6", "pair")


class Wait(Part):
    """A wait of the test: ``waited`` of ``within`` seconds; over half of it deserves a look."""

    what: str
    waited: float
    within: float
    probes: int
    settled: bool = True


class Cell(Part):
    """One relation that probes decided: ``observed`` and ``expected`` are outcomes."""

    source: str
    target: str
    detail: str = ""
    observed: str
    expected: str
    note: str = ""

    @property
    def good(self) -> bool:
        return self.observed == self.expected


class RequirementResult(Part):
    """Verdict about one requirement in one family."""

    id: str
    family: FamilyName
    profile: Level
    group: str
    title: str
    verdict: Verdict
    reason: str = ""
    seconds: float
    test: str = Field(description="node id of the test that decided it")
    repeat: str = Field(default="", description="command that repeats this test alone")
    waits: tuple[Wait, ...] = ()
    evidence: tuple[str, ...] = Field(default=(), description="files beside results.json")
    findings: tuple[str, ...] = Field(
        default=(), description="every sentence of a failure; the reason folds what is too much"
    )
    cells: tuple[Cell, ...] = Field(
        default=(), description="of a failure about who reaches whom: all cells, good ones too"
    )
    blocked_by: str | None = Field(default=None, description="id of the requirement that blocks")

    @property
    def key(self) -> tuple[str, FamilyName]:
        return self.id, self.family


class Node(Part):
    """A node as observed: ``proxyMode`` is what its kube-proxy answered."""

    # Facts may say more than version 1 names; a report must not refuse them.
    model_config = ConfigDict(extra="allow")

    name: str
    proxy_mode: str
    kernel: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...] = Field(default=(), alias="podCIDRs")
    calico_addresses: tuple[str, ...] = Field(
        default=(), description="where Calico's BIRD peers with it"
    )
    cni_assigns: tuple[str, ...] = Field(
        default=(), description="families that its CNI configuration asks for"
    )


class Pool(Part):
    """A Calico IPPool."""

    model_config = ConfigDict(extra="allow")

    name: str
    cidr: str
    disabled: bool
    nat_outgoing: bool
    ipip_mode: str
    vxlan_mode: str
    node_selector: str


class GlobalPolicy(Part):
    """A Calico GlobalNetworkPolicy: ``allowsAll`` are families that a rule allows altogether."""

    model_config = ConfigDict(extra="allow")

    name: str
    order: float | None
    selector: str
    allows_all: tuple[str, ...]


class ClusterInfo(Part):
    """The cluster under test; what no test observed is null or empty."""

    model_config = ConfigDict(extra="allow")

    name: str
    kubernetes: str | None = None
    calico: str | None = None
    nodes: tuple[Node, ...] = ()
    # pydantic's generator would spell these podCidrs; Kubernetes spells them podCIDRs.
    pod_cidrs: tuple[str, ...] = Field(default=(), alias="podCIDRs")
    service_cidrs: tuple[str, ...] = Field(default=(), alias="serviceCIDRs")
    controller_pod_cidrs: tuple[str, ...] = Field(
        default=(),
        alias="controllerPodCIDRs",
        description="--cluster-cidr of kube-controller-manager",
    )
    pools: tuple[Pool, ...] = ()
    kube_proxy: Mapping[str, Any] = Field(default={}, description="its configuration, in part")
    calico_node: Mapping[str, str] = Field(default={}, description="its environment, in part")
    felix: Mapping[str, Mapping[str, Any]] = Field(
        default={}, description="FelixConfigurations by name, in part"
    )
    global_policies: tuple[GlobalPolicy, ...] = ()
    corefile: str = Field(default="", description="what CoreDNS is configured with")
    declared: Mapping[str, Any] = Field(
        default={}, description="the profile that it was declared to be, as it was resolved"
    )


class RunInfo(Part):
    """The run: ``complete`` is true when every test that was collected got a verdict."""

    id: str
    started: datetime
    seconds: float
    argv: tuple[str, ...]
    profile: tuple[Level, ...] = Field(description="conformance profiles that were asked for")
    complete: bool


class LostAgent(Part):
    """An agent whose stream ended or broke; what it was asked then is inconclusive."""

    agent: str
    op: str = Field(description="operation that it was asked for")
    reason: str
    test: str = Field(description="node id of the test that noticed")


class NotTested(Part):
    """A requirement without verdict, and why."""

    id: str
    family: FamilyName
    reason: str


Counts = Mapping[Verdict, int]


class Summary(Part):
    """Counts of verdicts, and what the process ended with."""

    verdicts: Counts
    by_profile: Mapping[Level, Counts]
    by_group: Mapping[str, Mapping[FamilyName, Counts]]
    not_tested: tuple[NotTested, ...]
    harness_errors: tuple[str, ...] = ()
    exit_code: int
    exit_reason: str


class Consequence(Part):
    """A result that failed or could not be decided, which a diagnosis explains."""

    id: str
    family: FamilyName
    verdict: Verdict


class Diagnosis(Part):
    """A named cause of failures; one whose ``rule`` is null is unknown."""

    rule: str | None = Field(description="name of the rule that holds")
    faults: tuple[str, ...] = Field(description="seeded faults that the rule is proved with")
    cause: str
    evidence: tuple[str, ...] = Field(description="what was seen, with the requirement that saw it")
    fix: tuple[str, ...] = Field(description="commands or settings, in order")
    asymmetry: tuple[str, ...] = Field(description="family, direction, node, protocol concerned")
    consequences: tuple[Consequence, ...]
    ruled_out: tuple[str, ...] = Field(default=(), description="causes that it is not, and why")
    not_looked_at: tuple[str, ...] = Field(
        default=(), description="causes that it may be: what would tell was not run"
    )


class Results(Part):
    """The whole file."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: RunInfo
    cluster: ClusterInfo | None = None
    requirements: tuple[RequirementResult, ...]
    lost_agents: tuple[LostAgent, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    summary: Summary
    proof: Proof | None = Field(
        default=None, description="of a run that planted faults: what was red, what should have"
    )
    gate: Gate | None = Field(
        default=None, description="of an upgrade gate; requirements are those after the upgrade"
    )

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Replace the file in one step: a reader never sees half of it."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(self.to_json(), encoding="utf-8")
        draft.replace(path)


class ResultsError(ValueError):
    """A file is not a results file of a version that we read; the message says which and why."""


def read(path: Path) -> Results:
    """Results from a file, or from the directory of a run.

    Raises:
        ResultsError: the file is missing, or is not version 1.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    try:
        return Results.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{file}: {error.strerror}: name a run's directory or file") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ResultsError(f"{file}: not results version 1: {where}: {first['msg']}") from None


def schema() -> str:
    """JSON Schema of the file, as text."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Results.model_json_schema(by_alias=True, mode="serialization"),
        "title": "Results of the dual-stack conformance suite, version 1",
    }
    return json.dumps(made, indent=2) + "\n"
