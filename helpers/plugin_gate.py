"""``pytest suites --upgrade-from v3.30.1 --upgrade-to v3.31.0``: may this Calico version ship?

Each part of the gate is a pytest item, and a session of its own as a user would start it: what a
session observes once and shares, it observes of the release that runs then. ``-n`` is passed on
to the conformance parts. ``--watch`` is the same for a cluster that others upgrade.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

from clusters.errors import ClusterError
from clusters.spec import Version
from helpers import gate_parts, prove_session
from helpers.gate_parts import GatePart, Plan
from helpers.plugin_clusters import NO_CLUSTER, clusters_of
from helpers.plugin_results import SUITES, run_directory
from helpers.requirements import requirements
from helpers.resilience.limits import LIMITS_FILE

PROPERTY: Final = "dsc-gate"  # name of the record among a report's user properties
RESULTS_FILE: Final = "results.json"
WORKERS: Final = 4
GOOD: Final = 0
USAGE: Final = 2

_workers: Final = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dualstack-gate", "dual-stack conformance: the upgrade gate")
    group.addoption(
        "--upgrade-to",
        metavar="VERSION",
        help="the gate: conformance, an upgrade of Calico to this release with flows of both "
        "families around it, conformance again; exits 0 only when it may ship",
    )
    group.addoption(
        "--upgrade-from",
        metavar="VERSION",
        help="release that the cluster is made with, or must run when it is reused",
    )
    group.addoption(
        "--upgrade-back", action="store_true", help="after it the way back, judged the same way"
    )
    group.addoption(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=3600.0,
        help="the gate for a cluster that others upgrade: conformance, flows until Enter, Ctrl-C, "
        "SIGTERM or so many seconds (default 3600), conformance again; changes nothing itself",
    )


@pytest.hookimpl(tryfirst=True)  # before xdist makes workers of -n, and before there is a cluster
def pytest_cmdline_main(config: pytest.Config) -> None:
    if not wanted(config):
        return
    given = getattr(config.option, "numprocesses", None)
    config.stash[_workers] = given if isinstance(given, int) and given else WORKERS
    config.option.numprocesses = 0
    _check(config)
    old, new = config.getoption("upgrade_from"), config.getoption("upgrade_to")
    if new and config.getoption("cluster") == "kind" and not config.getoption("reuse_cluster"):
        # The nodes of a new cluster hold the images of both releases.
        config.option.calico_version = old
        config.option.profile_set = [
            *config.getoption("profile_set"),
            ("calico_upgrades", new.removeprefix("v")),
        ]


def wanted(config: pytest.Config) -> bool:
    """Whether this run is the gate."""
    return bool(config.getoption("upgrade_to")) or config.getoption("watch") is not None


def _check(config: pytest.Config) -> None:
    """Refuse options that contradict each other.

    Raises:
        pytest.UsageError: which ones, and what to write instead.
    """
    old, new = config.getoption("upgrade_from"), config.getoption("upgrade_to")
    existing = config.getoption("cluster") == "existing"
    problem = ""
    for name, version in (("--upgrade-from", old), ("--upgrade-to", new)):
        try:
            _ = Version.parse(version) if version else None
        except ValueError as error:
            problem = f"{name}: {error}, e.g. v3.31.0"
    if config.getoption("prove"):
        problem = "--prove plants faults, the gate judges an upgrade: leave out one of them"
    elif new and config.getoption("watch") is not None:
        problem = "--watch is for clusters that others upgrade: leave out it or --upgrade-to"
    elif new and not old and not config.getoption("reuse_cluster"):
        problem = "--upgrade-to needs --upgrade-from: the release that the cluster begins with"
    elif new and existing and not config.getoption("allow_disruptive"):
        problem = (
            "--upgrade-to upgrades somebody else's cluster: add --allow-disruptive, or use "
            "--watch while they upgrade it"
        )
    elif config.getoption("upgrade_back") and not (old and new):
        problem = "--upgrade-back needs --upgrade-from and --upgrade-to"
    if problem:
        raise pytest.UsageError(problem)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """In the gate tests run in sessions of their own."""
    if wanted(config) and collection_path.suffix == ".py":
        return True
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if wanted(parent.config) and file_path == parent.config.rootpath / SUITES / LIMITS_FILE.name:
        return LimitsFile.from_parent(parent, path=file_path)
    return None


class LimitsFile(pytest.File):
    """``suites/flow_limits.yaml`` as a collector: what the upgrade may cost."""

    def collect(self) -> Iterable[GateItem]:
        folder = self.config.stash.get(run_directory, self.config.rootpath)
        for part in plan(self.config, where=()).parts(folder / "stop"):
            yield GateItem.from_parent(self, name=part.name, part=part)


def plan(config: pytest.Config, where: tuple[str, ...]) -> Plan:
    """What the options ask for, on a cluster that ``where`` names."""
    return Plan(
        old=_tag(config.getoption("upgrade_from")),
        new=_tag(config.getoption("upgrade_to")),
        back=config.getoption("upgrade_back"),
        watch=config.getoption("watch"),
        chosen=gate_parts.chosen(
            requirements().values(),
            config.getoption("--conformance"),
            config.getoption("--requirements"),
        ),
        where=where,
        workers=config.stash.get(_workers, WORKERS),
        spoilt=config.getoption("--bad-upgrade"),
    )


def _tag(version: str | None) -> str | None:
    return f"v{version.removeprefix('v')}" if version else None


class GateItem(pytest.Item):
    """One part: passes when its session exits with 0."""

    def __init__(self, *, part: GatePart, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = part
        self.add_marker(pytest.mark.timeout(0))  # every part has its own limit

    def runtest(self) -> None:
        folder = self.config.stash[run_directory]
        where = self._where()
        parts = plan(self.config, where).parts(folder / "stop")
        part = next(each for each in parts if each.name == self.part.name)
        place, began = folder / part.name, monotonic()
        tell = clusters_of(self.config).tell
        tell(f"{part.title}: {gate_parts.command(part)}")
        stopping = nullcontext()
        if part.name == "watch":
            tell(f"watching: Enter, Ctrl-C or `touch {folder / 'stop'}` ends it")
            stopping = gate_parts.stopped_by(folder / "stop")  # type: ignore[assignment]
        with stopping:
            code = prove_session.run(
                part.options, place, root=self.config.rootpath, within=part.within
            )
        there = (place / "latest" / RESULTS_FILE).is_file()
        record = {
            "name": part.name,
            "title": part.title,
            "changes": part.changes,
            "command": gate_parts.command(part),
            "folder": str((place / "latest").resolve()) if there else None,
            "code": code,
            "seconds": round(monotonic() - began, 1),
        }
        self.user_properties.append((PROPERTY, json.dumps(record)))
        if not there:
            self.session.shouldstop = f"the part {part.name} brought no verdicts"
        if code != GOOD:
            raise PartError(part, code, place / "pytest.log")

    def _where(self) -> tuple[str, ...]:
        """The cluster, made by the first part that asks for it, as options for its session."""
        clusters = clusters_of(self.config)
        try:
            cluster = clusters.obtain()
        except ClusterError as error:
            pytest.exit(str(error), returncode=NO_CLUSTER)
        old = self.config.getoption("upgrade_from")
        if cluster.owned and old and self.part.name == "before":
            runs = cluster.spec.calico
            if runs != Version.parse(old):
                text = f"cluster {cluster.name} runs Calico {runs}, --upgrade-from says {old}"
                pytest.exit(text, returncode=USAGE)
        if cluster.owned:
            return ("--reuse-cluster", cluster.name)
        return existing_options(self.config)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, PartError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.part.name}: {self.part.title}"


class PartError(Exception):
    """A part did not end well."""

    def __init__(self, part: GatePart, code: int, log: Path) -> None:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        super().__init__("\n".join([f"{part.title}: exit {code}", *(f"  {x}" for x in tail)]))


def existing_options(config: pytest.Config) -> tuple[str, ...]:
    """The options that name somebody else's cluster, as they were given."""
    found = ["--cluster=existing"]
    for name in ("kubeconfig", "context", "agent_image", "profile"):
        value = config.getoption(name)
        if value:
            found.append(f"--{name.replace('_', '-')}={value}")
    found += [f"--set={field}={value}" for field, value in config.getoption("profile_set")]
    if config.getoption("allow_disruptive") and config.getoption("watch") is None:
        found.append("--allow-disruptive")
    return tuple(found)


def parts_of(report: pytest.TestReport) -> list[dict[str, Any]]:
    """The records that a report brings about parts of the gate."""
    if report.when != "call":
        return []
    told = [value for name, value in report.user_properties if name == PROPERTY]
    return [json.loads(value) for value in told if isinstance(value, str)]
