"""Families and verdicts: the side of the results that runs where tests run (workers too).

A test under ``suites/`` gets its ``family`` argument from its requirement, and its outcome leaves
as one JSON record in the report's user properties. The controller's side is ``reports.collect``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from helpers import figures, waiting
from helpers.decide import Decision, decide
from helpers.evidence import Evidence
from helpers.features import why_not
from helpers.findings import listed
from helpers.kube_errors import KubeError
from helpers.model import Family, Level, Verdict
from helpers.observed import observed
from helpers.requirements import Requirement, RequirementError, requirement_of, requirements
from helpers.tracebacks import drop_entries_without_line

if TYPE_CHECKING:
    from _pytest.python import Metafunc

PROPERTY: Final = "dsc"  # name of the record among a report's user properties
PAIR: Final = "pair"  # family of a verdict that covers both
SUITES: Final = "suites"
# What reports.collect leaves of an error that the first test without a cluster has told in full.
NO_CLUSTER_AGAIN: Final = "INCONCLUSIVE: no cluster (the first error says why)"

run_directory: Final = pytest.StashKey[Path]()  # set by reports.collect
_requirement: Final = pytest.StashKey[Requirement]()
_evidence: Final = pytest.StashKey[Evidence]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dualstack", "dual-stack conformance")
    group.addoption(
        "--conformance",
        metavar="LEVEL[,LEVEL]",
        type=_levels,
        default=tuple(Level),
        help="run requirements of these conformance profiles only: "
        "core, extended, informational (default: all)",
    )
    group.addoption(
        "--requirements",
        metavar="ID,...",
        type=_ids,
        default=(),
        help="run the tests of these requirements only: SVC-007,CONN-002",
    )


def _ids(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    unknown = [name for name in names if name not in requirements()]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no requirement {', '.join(unknown)}")
    return names


def _levels(text: str) -> tuple[Level, ...]:
    return tuple(level for level in Level if level in {Level(part) for part in text.split(",")})


def in_suites(config: pytest.Config, path: Path) -> bool:
    """Whether a file is a test of the suites (and not one of the harness's own)."""
    return path.is_relative_to(config.rootpath / SUITES)


def pytest_generate_tests(metafunc: Metafunc) -> None:
    """Decide a requirement for each of its families; refuse tests that disagree with it."""
    if not in_suites(metafunc.config, metafunc.definition.path):
        return
    name = metafunc.function.__name__
    try:
        requirement = requirement_of(name)
    except RequirementError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    takes_family = "family" in metafunc.fixturenames
    if requirement.pair and takes_family:
        raise pytest.Collector.CollectError(
            f"{name}: {requirement.id} is decided once for both families "
            "(families: pair): its test takes no `family` argument"
        )
    if not requirement.pair and not takes_family:
        raise pytest.Collector.CollectError(
            f"{name}: {requirement.id} is decided for each of {', '.join(requirement.families)}: "
            "take a `family` argument"
        )
    if takes_family:
        ids = [family.value for family in requirement.families]
        metafunc.parametrize("family", requirement.families, ids=ids)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests as their requirement says; drop those that were not asked for."""
    wanted, names = config.getoption("--conformance"), config.getoption("--requirements")
    dropped: list[pytest.Item] = []
    for item in items:
        if not in_suites(config, item.path) or not isinstance(item, pytest.Function):
            continue
        requirement = requirement_of(item.name)
        item.stash[_requirement] = requirement
        if requirement.disruptive:
            item.add_marker(pytest.mark.disruptive)
        if requirement.needs:
            item.add_marker(pytest.mark.needs(*requirement.needs))
        if requirement.level not in wanted or (names and requirement.id not in names):
            dropped.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = set(map(id, dropped))
        items[:] = [item for item in items if id(item) not in gone]


@pytest.fixture(autouse=True)
def _declared_features(request: pytest.FixtureRequest) -> None:
    """Skip a test whose requirement needs what the cluster was never declared to have."""
    requirement = request.node.stash.get(_requirement, None)
    if requirement is None or "cluster" not in request.fixturenames:
        return
    reason = why_not(requirement.needs, request.getfixturevalue("cluster"))
    if reason:
        pytest.skip(reason)


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Attach files to the verdict of this test; see ``helpers.evidence.Evidence``."""
    return _evidence_of(request.node)


def _evidence_of(item: pytest.Item) -> Evidence:
    return item.stash.setdefault(_evidence, Evidence())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _requirement in item.stash:
        # What an earlier test's cleanup left is not this test's.
        waiting.drain_waits()
        figures.drain_matrices()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn the outcome into a verdict, and see that JUnit and terminal tell the same."""
    drop_entries_without_line(call.excinfo.value if call.excinfo else None)
    report: pytest.TestReport = yield
    if _requirement not in item.stash:
        return report
    error = call.excinfo.value if call.excinfo else None
    mark = item.get_closest_marker("xfail")
    decision = decide(report, error, xfail=mark.kwargs.get("reason") if mark else None)
    if decision is None:
        return report
    decision = _if_agents_stayed(item, decision)
    _retell(item, report, decision)
    record = (PROPERTY, json.dumps(_record(item, report, decision, error), default=str))
    item.user_properties.append(record)
    report.user_properties.append(record)
    return report


def _if_agents_stayed(item: pytest.Item, decision: Decision) -> Decision:
    """A failure during which agents' pods were evicted or replaced is no verdict.

    Probes to a pod that is gone are lost in a healthy network. Tests that move pods themselves
    (disruptive ones) judge that themselves.
    """
    pool = getattr(item, "funcargs", {}).get("agents")
    if decision.verdict is not Verdict.FAIL or pool is None or item.stash[_requirement].disruptive:
        return decision
    try:
        changes = pool.replaced()
    except KubeError:
        return decision  # nobody says that they were: the failure stands
    if not changes:
        return decision
    told = f"{listed(changes)}: run it again; it then saw: {decision.reason}"
    return Decision(Verdict.INCONCLUSIVE, told)


def _retell(item: pytest.Item, report: pytest.TestReport, decision: Decision) -> None:
    """Change what pytest shows where its own words would mislead."""
    if decision.verdict is Verdict.BLOCKED:
        path, line, _ = item.location
        report.outcome = "skipped"
        reason = decision.reason.removeprefix("blocked by")
        report.longrepr = (path, line or 0, f"Skipped: BLOCKED by{reason}")
    elif decision.verdict is Verdict.INCONCLUSIVE:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = f"INCONCLUSIVE: {decision.reason}"
        if report.outcome == "skipped" or crash is None:
            report.longrepr = message
        else:
            crash.message = message
        report.outcome = "failed"


def _record(
    item: pytest.Item,
    report: pytest.TestReport,
    decision: Decision,
    error: BaseException | None,
) -> dict[str, Any]:
    requirement = item.stash[_requirement]
    family = family_of(item)
    directory = item.config.stash.get(run_directory, None)
    files: list[str] = []
    if directory is not None:
        collected = _evidence_of(item)
        drawn = figures.drain_matrices()
        if drawn:
            collected.attach(figures.MATRIX_FILE, drawn, always=True)
        if report.failed:
            collected.attach("failure.txt", report.longreprtext + "\n")
        beside = directory / f"{requirement.id}-{family}"
        files = [
            str(path.relative_to(directory)) for path in collected.write(beside, decision.verdict)
        ]
    return {
        "id": requirement.id,
        "family": family,
        "when": report.when,
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "seconds": round(report.duration, 3),
        "waits": [asdict(wait) for wait in waiting.drain_waits()],
        "evidence": files,
        "observed": observed(error),
        "losses": _losses(getattr(item, "funcargs", {})),
        "noCluster": decision.no_cluster,
        "cluster": _cluster(getattr(item, "funcargs", {})),
    }


def family_of(item: pytest.Item) -> str:
    """``ipv4``, ``ipv6``, or ``pair`` for a test that decides both together."""
    callspec = getattr(item, "callspec", None)
    family = callspec.params.get("family") if callspec else None
    return family.value if isinstance(family, Family) else PAIR


def _losses(fixtures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Agents that were lost since this process made its last record."""
    pool = fixtures.get("agents")
    return [asdict(loss) for loss in pool.drain_losses()] if pool is not None else []


def _cluster(fixtures: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the test knows of the cluster: how to reach it again, and its facts if it took them."""
    cluster = fixtures.get("cluster")
    if cluster is None:
        return None
    facts = fixtures.get("facts")
    return {
        "name": cluster.name,
        "owned": cluster.owned,
        "kubeconfig": str(cluster.kubeconfig),
        "context": cluster.context,
        "declared": cluster.spec.model_dump(mode="json"),
        "facts": facts.summary() if facts is not None else None,
    }


def record_of(report: pytest.TestReport) -> dict[str, Any] | None:
    """The record that a report brings, None for reports that decide nothing.

    Reports of later phases repeat the records of earlier ones; only its own counts.
    """
    for name, value in report.user_properties:
        if name == PROPERTY and isinstance(value, str):
            record: dict[str, Any] = json.loads(value)
            if record["when"] == report.when:
                return record
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> tuple[str, str, Any] | None:
    """Letters B and I in the progress line, so that undecided is told apart from failed."""
    record = record_of(report) if isinstance(report, pytest.TestReport) else None
    if record is None:
        return None
    if record["verdict"] == Verdict.BLOCKED:
        return "skipped", "B", ("BLOCKED", {"yellow": True})
    if record["noCluster"] and report.longrepr == NO_CLUSTER_AGAIN:
        return "without cluster", "N", ("NO CLUSTER", {"yellow": True})
    if record["verdict"] == Verdict.INCONCLUSIVE:
        category = "failed" if report.when == "call" else "error"
        return category, "I", ("INCONCLUSIVE", {"yellow": True})
    return None
