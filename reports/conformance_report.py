"""ConformanceReport: the run in the shape of Gateway API's conformance reports.

The shape is Gateway API's ``conformance/apis/v1`` (ConformanceReport, ProfileReport, Status,
Statistics); the API group is ours, because the requirements are. A profile is a family: ``IPv4``,
``IPv6``, and ``DualStack`` for what only the pair can show.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import yaml

from helpers.model import Level, Verdict
from helpers.naming import PRODUCT
from reports.model import FAMILY_NAMES, FamilyName, RequirementResult, Results

API_VERSION: Final = f"{PRODUCT}/v1"
PROFILES: Final[dict[FamilyName, str]] = {"ipv4": "IPv4", "ipv6": "IPv6", "pair": "DualStack"}


def conformance_report(results: Results) -> dict[str, Any]:
    """The report as plain data, in the order it is written."""
    cluster = results.cluster
    return {
        "apiVersion": API_VERSION,
        "kind": "ConformanceReport",
        "date": results.run.started.isoformat(),
        "implementation": {
            "organization": "projectcalico",
            "project": "calico",
            "url": "https://github.com/projectcalico/calico",
            "version": (cluster.calico if cluster else None) or "unknown",
        },
        "kubernetesVersion": (cluster.kubernetes if cluster else None) or "unknown",
        "mode": "default",
        "profiles": [
            _profile(family, [r for r in results.requirements if r.family == family])
            for family in FAMILY_NAMES
            if any(r.family == family for r in results.requirements)
        ],
    }


def to_yaml(results: Results) -> str:
    return yaml.safe_dump(conformance_report(results), sort_keys=False, width=100)


def _profile(family: FamilyName, results: list[RequirementResult]) -> dict[str, Any]:
    core = [r for r in results if r.profile is Level.CORE]
    extended = [r for r in results if r.profile is Level.EXTENDED]
    profile: dict[str, Any] = {"name": PROFILES[family]}
    if core:
        profile["core"] = _status(core)
    if extended:
        profile["extended"] = {
            **_status(extended),
            "supportedFeatures": _ids(extended, Verdict.PASS),
            "unsupportedFeatures": _ids(extended, *(v for v in Verdict if v is not Verdict.PASS)),
        }
    profile["summary"] = _sentence(core, extended)
    return profile


def _status(results: list[RequirementResult]) -> dict[str, Any]:
    """A blocked or inconclusive requirement is not skipped by choice: it keeps from success."""
    failed = _ids(results, Verdict.FAIL)
    undecided = _ids(results, Verdict.SKIPPED, Verdict.BLOCKED, Verdict.INCONCLUSIVE)
    status: dict[str, Any] = {
        "result": "failure" if failed else "partial" if undecided else "success",
        "statistics": {
            "Passed": len(_ids(results, Verdict.PASS)),
            "Skipped": len(undecided),
            "Failed": len(failed),
        },
    }
    if failed:
        status["failedTests"] = failed
    if undecided:
        status["skippedTests"] = undecided
    return status


def _ids(results: Iterable[RequirementResult], *verdicts: Verdict) -> list[str]:
    return [r.id for r in results if r.verdict in verdicts]


def _sentence(core: list[RequirementResult], extended: list[RequirementResult]) -> str:
    def of(name: str, results: list[RequirementResult]) -> str:
        return f"{name}: {len(_ids(results, Verdict.PASS))} of {len(results)} passed"

    parts = [of(name, rs) for name, rs in (("core", core), ("extended", extended)) if rs]
    return ("; ".join(parts) or "informational requirements only") + "."
