"""The controller's side of the results: a pytest plugin that turns reports into ``results.json``.

It runs where the terminal is: in the only process, or in xdist's controller. Workers only make the
records (``helpers.plugin_results``) and write evidence into the directory that they are told.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.junitxml import xml_key

from helpers.model import Verdict
from helpers.plugin_results import (
    NO_CLUSTER_AGAIN,
    PAIR,
    SUITES,
    in_suites,
    record_of,
    run_directory,
)
from helpers.requirements import RequirementError, requirement_of, requirements
from reports.conformance_report import to_yaml
from reports.diagnosis import diagnosed
from reports.exit_codes import Ending, ExitCode
from reports.html.render import PAGE_FILE, write
from reports.ledger import Ledger
from reports.model import RESULTS_FILE, Results
from reports.summarize import Key
from reports.terminal import first_line, summary_lines

WORKER_INPUT: Final = "dsc_run_directory"
JUNIT_FILE: Final = "junit.xml"
CONFORMANCE_FILE: Final = "conformance-report.yaml"
LATEST: Final = "latest"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dualstack")
    group.addoption(
        "--reports-dir",
        metavar="DIR",
        default=None,
        help="where runs leave their reports (default: reports/out of this repository)",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest's junitxml looks at its option
def pytest_configure(config: pytest.Config) -> None:
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        if WORKER_INPUT in worker_input:
            config.stash[run_directory] = Path(worker_input[WORKER_INPUT])
        return
    if config.option.collectonly or not _may_collect_suites(config):
        return
    base = Path(config.getoption("--reports-dir") or config.rootpath / "reports" / "out")
    started = datetime.now(UTC)
    run_id = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    directory = base.absolute() / run_id
    config.stash[run_directory] = directory
    if config.pluginmanager.hasplugin("junitxml") and not config.option.xmlpath:
        config.option.xmlpath = str(directory / JUNIT_FILE)
    ledger = Ledger(
        run_id=run_id,
        directory=directory,
        root=config.rootpath,
        started=started,
        argv=tuple(config.invocation_params.args),
        profile=config.getoption("--conformance"),
        requirements=requirements(),
    )
    config.pluginmanager.register(Collector(config, ledger), "dualstack-collector")
    config.add_cleanup(lambda: _drop_empty(directory))


def _may_collect_suites(config: pytest.Config) -> bool:
    """Whether the paths on the command line contain suites; else the run is none of ours."""
    suites = config.rootpath / SUITES
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path.is_relative_to(suites) or suites.is_relative_to(path):
            return True
    return False


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist where evidence goes."""
    directory = node.config.stash.get(run_directory, None)
    if directory is not None:
        node.workerinput[WORKER_INPUT] = str(directory)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Usage errors of a run of the suites exit with 2; pytest's own 4 means no cluster here."""
    try:
        return (yield)
    except pytest.UsageError as error:
        if not _may_collect_suites(config):
            raise
        for message in error.args:
            print(f"ERROR: {message}", file=sys.stderr)
        return ExitCode.USAGE


class Collector:
    """Registered on the controller for runs that may collect suites."""

    def __init__(self, config: pytest.Config, ledger: Ledger) -> None:
        self.config = config
        self.ledger = ledger
        self.final: Results | None = None
        self.stopped: tuple[int, str] | None = None
        self.harness_errors: list[str] = []
        self.page_error = ""

    # What is going to be decided.

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        ids = [item.nodeid for item in session.items if in_suites(self.config, item.path)]
        self._expect(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._expect(ids)

    def _expect(self, node_ids: Iterable[str]) -> None:
        known = {node_id: key for node_id in node_ids if (key := key_of(node_id)) is not None}
        if known and not self.ledger.expected:
            self.ledger.expected.update(known)
            self.ledger.write(self._ending(), complete=False)
            point_latest(self.ledger.directory)

    # What is decided.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        record = record_of(report)
        if record is None:
            record = self._crash(report)
        if record is None:
            return
        again = record["noCluster"] and self.ledger.no_cluster is not None
        self.ledger.add(report.nodeid, record)
        if again:
            # One cluster is missing, not a hundred tests broken: said in full the first time.
            report.longrepr = NO_CLUSTER_AGAIN
        self.ledger.write(self._ending(), complete=False)

    def _crash(self, report: pytest.TestReport) -> dict[str, Any] | None:
        """A record for what xdist reports when a worker died: the test was running, not failing."""
        key = key_of(report.nodeid)
        if report.when in ("setup", "call", "teardown") or key is None or not report.failed:
            return None
        reason = first_line(str(report.longrepr))
        report.longrepr = f"INCONCLUSIVE: {reason}"
        return {
            "id": key[0],
            "family": key[1],
            "verdict": Verdict.INCONCLUSIVE.value,
            "reason": f"{reason}; what it observed is lost",
            "seconds": round(report.duration, 3),
            "waits": [],
            "evidence": [],
            "losses": [],
            "noCluster": False,
            "cluster": None,
        }

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            text = first_line(report.longreprtext.strip().rpartition("\n")[2])
            self.harness_errors.append(f"collection of {report.nodeid or 'the suites'}: {text}")

    def pytest_internalerror(self, excrepr: object) -> None:
        last = str(excrepr).strip().rpartition("\n")[2]
        self.harness_errors.append(f"internal error: {last}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        error = excinfo.value
        if isinstance(error, pytest.exit.Exception):
            code = ExitCode.USAGE if error.returncode is None else error.returncode
            self.stopped = (code, f"stopped: {first_line(str(error))}")
        elif not isinstance(error, pytest.Session.Interrupted):
            # Interrupted is how pytest itself stops after collection errors: not a person's Ctrl-C.
            self.stopped = (ExitCode.USAGE, "interrupted")

    # The end.

    @pytest.hookimpl(tryfirst=True)  # before junitxml writes its file
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if not self.ledger.expected and not self.harness_errors:
            return  # nothing of ours was selected: pytest's own codes stand
        complete = not self.ledger.missing and self.stopped is None and not self.harness_errors
        self.final = diagnosed(self.ledger.results(self._ending(), complete=complete))
        self._write_final(self.final)
        session.exitstatus = self.final.summary.exit_code

    def _write_final(self, results: Results) -> None:
        directory = self.ledger.directory
        directory.mkdir(parents=True, exist_ok=True)
        results.write(directory / RESULTS_FILE)
        (directory / CONFORMANCE_FILE).write_text(to_yaml(results), encoding="utf-8")
        point_latest(directory)
        try:
            write(results, directory)
        except Exception as error:  # a page that cannot be drawn changes no verdict
            self.page_error = f"{type(error).__name__}: {error}"
        xml = self.config.stash.get(xml_key, None)
        if xml is not None:
            for name, value in _suite_properties(results).items():
                xml.add_global_property(name, value)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.final is None:
            return
        terminalreporter.section("dual-stack conformance")
        for line in summary_lines(self.final):
            terminalreporter.line(line)
        place = shown(self.ledger.directory)
        failed = f"could not be drawn: {self.page_error}" if self.page_error else ""
        terminalreporter.line(f"page:     {failed or f'{place}/{PAGE_FILE}'}")
        terminalreporter.line(
            f"others:   {RESULTS_FILE}, {JUNIT_FILE}, {CONFORMANCE_FILE}, evidence"
        )

    def _ending(self) -> Ending:
        return Ending(
            no_cluster=self.ledger.no_cluster,
            stopped=self.stopped,
            missing=len(self.ledger.missing),
            harness_errors=tuple(self.harness_errors),
        )


def key_of(node_id: str) -> Key | None:
    """What a test decides, from its node id; None for a test of something else.

    ``suites/services/test_x.py::test_svc_007_x[ipv6]`` decides ``("SVC-007", "ipv6")``.
    """
    path, _, rest = node_id.partition("::")
    if not rest or path.split("/")[0] != SUITES:
        return None
    name, _, parameters = rest.rpartition("::")[2].partition("[")
    try:
        requirement = requirement_of(name)
    except RequirementError:
        return None
    given = parameters.rstrip("]").split("-")
    if "ipv4" in given:
        return requirement.id, "ipv4"
    if "ipv6" in given:
        return requirement.id, "ipv6"
    return requirement.id, PAIR


def point_latest(directory: Path) -> None:
    """Point ``latest`` at this run in one step; a file system without links goes without."""
    draft = directory.parent / f".{LATEST}.{os.getpid()}"
    try:
        draft.unlink(missing_ok=True)
        draft.symlink_to(directory.name)
        draft.replace(directory.parent / LATEST)
    except OSError:
        draft.unlink(missing_ok=True)


def _drop_empty(directory: Path) -> None:
    """Remove what a run left that never came to a requirement (a wrong path, nothing selected)."""
    if (directory / RESULTS_FILE).exists() or not directory.is_dir():
        return
    (directory / JUNIT_FILE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


def _suite_properties(results: Results) -> dict[str, str]:
    """Facts of the run for JUnit; xdist loses those that workers record, so the controller does."""
    found = {
        "run": results.run.id,
        "profile": ",".join(results.run.profile),
        "complete": str(results.run.complete).lower(),
        "exit": f"{results.summary.exit_code}: {results.summary.exit_reason}",
    }
    if results.cluster is not None:
        found |= {
            "cluster": results.cluster.name,
            "kubernetes": results.cluster.kubernetes or "unknown",
            "calico": results.cluster.calico or "unknown",
        }
        for node in results.cluster.nodes:
            found[f"node {node.name}"] = f"kube-proxy {node.proxy_mode}, kernel {node.kernel}"
    return found


def shown(path: Path) -> str:
    """A path as short as it can be written."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
