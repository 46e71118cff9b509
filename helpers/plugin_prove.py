"""``pytest suites --prove``: plants the faults of ``suites/faults.yaml`` and judges the suite.

Each fault is a pytest item of its own, so that ``-x``, ``-k`` and ``--collect-only`` do what they
do for tests. The controller alone plants; faults that touch different things and redden different
requirements are planted together, and each alone when that surprises. ``-n`` is passed on to the
sessions that decide the requirements meanwhile (``helpers.prove``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from clusters.errors import ClusterError
from helpers.faults import catalogue  # noqa: F401  # registers every fault
from helpers.faults.expectations import (
    FAULTS_FILE,
    Expectation,
    ExpectationError,
    expectations,
    label,
    sample,
)
from helpers.plugin_clusters import NO_CLUSTER, clusters_of
from helpers.plugin_results import SUITES, run_directory
from helpers.prove import Finding, Prover
from helpers.prove_campaign import Campaign
from helpers.prove_session import Session

PROPERTY: Final = "dsc-proof"  # name of the record among a report's user properties
BASELINE: Final = "B0"  # the control without a fault: everything is green
ALL: Final = "all"
WORKERS: Final = 4

_workers: Final = pytest.StashKey[int]()
_prover: Final = pytest.StashKey[Prover]()
_campaign: Final = pytest.StashKey[Campaign]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dualstack", "dual-stack conformance")
    group.addoption(
        "--prove",
        nargs="?",
        const=ALL,
        metavar="ID,...",
        help="plant faults (all that the cluster allows, or those named) and see that exactly the "
        "right requirements turn red",
    )
    group.addoption(
        "--prove-alone",
        action="store_true",
        help="plant one fault at a time, also where several touch different things",
    )


@pytest.hookimpl(tryfirst=True)  # before xdist makes workers of -n
def pytest_cmdline_main(config: pytest.Config) -> None:
    if not config.getoption("prove"):
        return
    wanted = getattr(config.option, "numprocesses", None)
    config.stash[_workers] = wanted if isinstance(wanted, int) and wanted else WORKERS
    config.option.numprocesses = 0
    if config.getoption("cluster") == "existing":
        raise pytest.UsageError(
            "--prove plants faults, which is done only in clusters that this product made: leave "
            "out --cluster=existing"
        )
    try:
        chosen(config)
    except ExpectationError as error:
        raise pytest.UsageError(str(error)) from None


def chosen(config: pytest.Config) -> list[Expectation]:
    """The rows to prove, cheap ones first. All of them begin with the baseline; without it, what
    is red before any fault shows as surplus.

    Raises:
        ExpectationError: an id that is not in the file, or the file is malformed.
    """
    rows, given = expectations(), config.getoption("prove")
    if given == ALL:
        return sorted(rows.values(), key=lambda row: (row.id != BASELINE, row.cost))
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ExpectationError(f"--prove: no fault {', '.join(unknown)}; known: {', '.join(rows)}")
    return sorted((rows[name] for name in rows if name in names), key=lambda row: row.cost)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--prove`` the tests themselves run in sessions of their own."""
    if config.getoption("prove") and collection_path.suffix == ".py":
        return True
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    wanted = parent.config.getoption("prove")
    if wanted and file_path == parent.config.rootpath / SUITES / FAULTS_FILE.name:
        return FaultsFile.from_parent(parent, path=file_path)
    return None


class FaultsFile(pytest.File):
    """``suites/faults.yaml`` as a collector."""

    def collect(self) -> Iterable[FaultItem]:
        rows = chosen(self.config)
        for row in rows:
            yield FaultItem.from_parent(self, name=row.id, row=row, all_rows=rows)


class FaultItem(pytest.Item):
    """One fault: passes when exactly the expected verdicts were red, and green again after."""

    def __init__(self, *, row: Expectation, all_rows: list[Expectation], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.row = row
        self.all_rows = all_rows
        self.add_marker(pytest.mark.timeout(0))  # every phase has its own limit

    def runtest(self) -> None:
        prover = self._obtained()
        if self.row.id == BASELINE:
            self._baseline(prover)
            return
        reason = prover.why_not(self.row)
        if reason:
            self._tell({"id": self.row.id, "title": self.row.title, "notRun": reason})
            pytest.skip(reason)
        campaign = self._campaign(prover)
        finding = campaign.finding(self.row)
        for each in campaign.untold():  # also those whose turn has not come: the run may be ended
            self._tell(each.to_json())
        if not finding.healed:
            self.session.shouldstop = f"{self.row.id} is not healed: {finding.error}"
        if not finding.proved:
            raise NotProvedError(finding)

    def _campaign(self, prover: Prover) -> Campaign:
        """All faults of this run: this one may have been planted with an earlier one."""
        stash = self.config.stash
        if _campaign not in stash:
            rows = [item.row for item in self.session.items if isinstance(item, FaultItem)]
            planted = [row for row in rows if row.id != BASELINE]
            alone = self.config.getoption("prove_alone")
            prover.prepare(sample())
            stash[_campaign] = Campaign(prover, planted, sample(), alone=alone)
        return stash[_campaign]

    def _obtained(self) -> Prover:
        if _prover not in self.config.stash:
            clusters = clusters_of(self.config)
            try:
                cluster = clusters.obtain()
            except ClusterError as error:
                pytest.exit(str(error), returncode=NO_CLUSTER)
            self.config.stash[_prover] = Prover.of(
                cluster,
                self.config.rootpath,
                self.config.stash[run_directory] / "faults",
                self.config.stash[_workers],
                clusters.tell,
            )
        return self.config.stash[_prover]

    def _baseline(self, prover: Prover) -> None:
        plantable = [row for row in self.all_rows if prover.why_not(row) is None]
        wanted = {name for row in plantable for name in row.selection} | set(sample())
        session = prover.baseline(wanted)
        record = {
            "id": self.row.id,
            "title": self.row.title,
            "baseline": str(session.folder),
            "notGreen": sorted(label(key) for key in prover.not_green),
        }
        self._tell(record)
        if prover.not_green:
            raise BaselineError(session, sorted(prover.not_green))

    def _tell(self, record: dict[str, Any]) -> None:
        self.user_properties.append((PROPERTY, json.dumps(record)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, NotProvedError | BaselineError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.row.id}: {self.row.title}"


class NotProvedError(Exception):
    """The suite did not answer a fault as expected."""

    def __init__(self, finding: Finding) -> None:
        lines = [f"{finding.row.id}: {finding.row.title}"]
        found = finding.comparison
        if found is not None:
            lines += [
                f"  {name}: {text}"
                for name, keys in (("missed", found.missed), ("surplus", found.surplus))
                for text in [", ".join(sorted(map(label, keys)))]
                if text
            ]
            lines += [
                f"    {label(key)}: {finding.reasons.get(label(key), '')}"
                for key in sorted(found.surplus)
            ]
        if finding.still_red:
            lines.append(f"  not green again: {', '.join(map(label, finding.still_red))}")
            lines += [
                f"    {label(k)}: {finding.reasons.get(f'{label(k)} after healing', '')}"
                for k in finding.still_red
            ]
        if finding.error:
            lines.append(f"  {finding.error}")
        super().__init__("\n".join(lines))


class BaselineError(Exception):
    """Requirements are not green without any fault, so no fault can be proved by them."""

    def __init__(self, session: Session, keys: list[tuple[str, str]]) -> None:
        told = [f"  {label(k)}: {session.seen[k].verdict}: {session.seen[k].reason}" for k in keys]
        super().__init__("\n".join(["not green without a fault:", *told]))


def left_untold(config: pytest.Config) -> list[dict[str, Any]]:
    """Records that no report has brought, because the run was ended."""
    campaign = config.stash.get(_campaign, None)
    if campaign is None:
        return []
    return [found.to_json() for found in (*campaign.untold(), *campaign.unfinished())]


def proofs_of(report: pytest.TestReport) -> list[dict[str, Any]]:
    """The records that a report brings about faults."""
    if report.when != "call":
        return []
    told = [value for name, value in report.user_properties if name == PROPERTY]
    return [json.loads(value) for value in told if isinstance(value, str)]
