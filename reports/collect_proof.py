"""The controller's side of ``--prove``: gathers what is told of each fault and writes the reports.

``results.json`` then holds the verdicts of the healthy cluster (control B0) and ``proof``.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

from helpers.faults.expectations import expectations
from helpers.plugin_prove import PROPERTY, left_untold, proofs_of
from helpers.plugin_results import run_directory
from helpers.requirements import requirements
from reports.collect import point_latest, shown
from reports.exit_codes import Ending, ExitCode
from reports.model import RESULTS_FILE, Results, ResultsError, RunInfo, read
from reports.proof import PAGE_FILE, PROOF_FILE, proof, table, write
from reports.proof_model import Proof
from reports.summarize import summarize

NAME: Final = "dualstack-proof"


@pytest.hookimpl(trylast=True)  # after reports.collect has chosen the directory
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("prove") and run_directory in config.stash:
        config.pluginmanager.register(ProofCollector(config), NAME)


class ProofCollector:
    """Registered on the controller of a run with ``--prove``."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.folder = config.stash[run_directory]
        self.records: list[dict[str, Any]] = []
        self.began = monotonic()
        self.started = datetime.now(UTC)
        self.final: Proof | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        records = proofs_of(report)
        # A record is for this report alone: JUnit's properties are for people.
        report.user_properties = [p for p in report.user_properties if p[0] != PROPERTY]
        if records:
            self.records += records
            self._write()

    def _write(self) -> Proof:
        """Rewritten after each fault: a run that is ended early has its report."""
        seconds = monotonic() - self.began
        root = self.config.rootpath
        found = proof(self.records, expectations(), requirements(), root, seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        write(found, self.folder)
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.records += left_untold(self.config)
        if not self.records:
            return
        self.final = self._write()
        found = self._results(self._healthy(), self.final, int(exitstatus))
        found.write(self.folder / RESULTS_FILE)
        point_latest(self.folder)

    def _healthy(self) -> Results:
        """Verdicts of the baseline; none where single faults were named."""
        folders = [record["baseline"] for record in self.records if "baseline" in record]
        with contextlib.suppress(ResultsError, IndexError):
            return read(Path(folders[0]))
        run = RunInfo(
            id=self.folder.name,
            started=self.started,
            seconds=0.0,
            argv=(),
            profile=self.config.getoption("--conformance"),
            complete=True,
        )
        return Results(run=run, requirements=(), summary=summarize((), (), Ending()))

    def _results(self, healthy: Results, found: Proof, status: int) -> Results:
        proved = status == ExitCode.OK
        told = "every fault was proved" if proved else "not every fault was proved: see proof"
        run = healthy.run.model_copy(
            update={
                "id": self.folder.name,
                "seconds": found.seconds,
                "argv": tuple(map(str, self.config.invocation_params.args)),
            }
        )
        summary = healthy.summary.model_copy(update={"exit_code": status, "exit_reason": told})
        return healthy.model_copy(update={"run": run, "summary": summary, "proof": found})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.final is None:
            return
        terminalreporter.section("what the planted faults showed")
        for line in table(self.final):
            terminalreporter.line(line)
        terminalreporter.line(f"proof:    {shown(self.folder)}/{PROOF_FILE}, {PAGE_FILE}")
