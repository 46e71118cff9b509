"""The controller's side of the upgrade gate: gathers its parts into one report with one answer."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import pytest

from helpers.plugin_gate import PROPERTY, GateItem, parts_of, wanted
from helpers.plugin_results import run_directory
from reports.collect import CONFORMANCE_FILE, point_latest, shown
from reports.conformance_report import to_yaml
from reports.exit_codes import Ending, ExitCode
from reports.gate import gathered, lines
from reports.html.render import PAGE_FILE, write
from reports.model import RESULTS_FILE, Results, RunInfo
from reports.terminal import summary_lines

NAME: Final = "dualstack-gate"


@pytest.hookimpl(trylast=True)  # after reports.collect has chosen the directory
def pytest_configure(config: pytest.Config) -> None:
    if wanted(config) and run_directory in config.stash:
        config.pluginmanager.register(GateCollector(config), NAME)


class GateCollector:
    """Registered on the controller of a gate."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.folder = config.stash[run_directory]
        self.records: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.stopped: tuple[int, str] | None = None
        self.began = monotonic()
        self.started = datetime.now(UTC)
        self.final: Results | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.asked = [item.part.name for item in session.items if isinstance(item, GateItem)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        records = parts_of(report)
        # A record is for this report alone: JUnit's properties are for people.
        report.user_properties = [p for p in report.user_properties if p[0] != PROPERTY]
        if report.failed and not records:
            self.errors.append(report.longreprtext.strip().rpartition("\n")[2])
        if records:
            self.records += records
            self._write()  # a gate that is ended early has its report

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        error = excinfo.value
        if isinstance(error, pytest.exit.Exception):
            code = ExitCode.USAGE if error.returncode is None else error.returncode
            self.stopped = (code, f"stopped: {error}")
        elif not isinstance(error, pytest.Session.Interrupted):
            self.stopped = (ExitCode.USAGE, "interrupted")

    def _write(self) -> Results:
        run = RunInfo(
            id=self.folder.name,
            started=self.started,
            seconds=round(monotonic() - self.began, 1),
            argv=tuple(map(str, self.config.invocation_params.args)),
            profile=self.config.getoption("--conformance"),
            complete=False,
        )
        ending = Ending(stopped=self.stopped, harness_errors=tuple(self.errors))
        found, before = gathered(run, self.folder, self.records, self.asked, ending)
        self.folder.mkdir(parents=True, exist_ok=True)
        found.write(self.folder / RESULTS_FILE)
        (self.folder / CONFORMANCE_FILE).write_text(to_yaml(found), encoding="utf-8")
        write(found, self.folder, before)
        point_latest(self.folder)
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.asked:
            return
        self.final = self._write()
        session.exitstatus = self.final.summary.exit_code

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.final is None or self.final.gate is None:
            return
        summary = self.final.summary
        terminalreporter.section("verdicts after the upgrade")
        for line in list(summary_lines(self.final))[:-1]:
            terminalreporter.line(line)
        terminalreporter.section("the upgrade gate")
        for line in lines(self.final.gate, summary.exit_code, summary.exit_reason):
            terminalreporter.line(line)
        place = shown(self.folder)
        terminalreporter.line(f"page:     {place}/{PAGE_FILE}")
        terminalreporter.line(
            f"others:   {RESULTS_FILE}, {CONFORMANCE_FILE}, a folder of each part"
        )
