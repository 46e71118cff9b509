"""Options of clusters, fixtures ``spec`` and ``cluster``, and the lock for disruptive tests.

The controller (never a worker) prepares a run before any worker starts: preflight, images, the
network namespace of the engine. Nothing of that happens for ``--collect-only`` or when no suite
can be collected. The cluster itself is made by the first test that asks for it, and destroyed by
the controller at the end, however the run ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

from clusters.errors import ClusterError, UnusableError
from clusters.interrupts import terminate_like_interrupt, uninterrupted
from clusters.options import add_profile_options
from clusters.registry import Keep
from helpers.cluster_session import ClusterSession, Wanted
from helpers.plugin_resilience import watched
from helpers.verdicts import Blocked, Inconclusive

if TYPE_CHECKING:
    from clusters.api import Cluster
    from clusters.spec import ClusterSpec

NO_CLUSTER: Final = 4
SUITES: Final = "suites"
WORKER_INPUT: Final = "dsc_run"
PROGRESS_PREFIX: Final = "cluster: "
TOO_LONG: Final = "disturbs the cluster for minutes; --disruptive=long runs it"

_session: Final = pytest.StashKey[ClusterSession]()
_pytest_session: Final = pytest.StashKey[pytest.Session]()
Tell = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dualstack-cluster", "dual-stack conformance: the cluster")
    group.addoption(
        "--cluster",
        choices=["kind", "existing"],
        default="kind",
        help="kind: make one and destroy it afterwards (default); existing: use the one of "
        "--kubeconfig, delete nothing there that is not ours",
    )
    add_profile_options(group.addoption)
    group.addoption(
        "--keep-cluster",
        nargs="?",
        type=Keep,
        choices=list(Keep),
        const=Keep.ALWAYS,
        default=Keep.NEVER,
        help="do not destroy the cluster afterwards; --keep-cluster=on-failure: only when "
        "something failed",
    )
    group.addoption(
        "--reuse-cluster",
        metavar="NAME",
        help="use a cluster that was kept (see `python -m clusters list`)",
    )
    group.addoption("--kubeconfig", metavar="PATH", help="of an existing cluster")
    group.addoption("--context", metavar="NAME", help="of the kubeconfig")
    group.addoption(
        "--agent-image",
        metavar="IMAGE",
        help="image of the probe agents on an existing cluster; anything with Python 3.9",
    )
    group.addoption(
        "--allow-disruptive",
        action="store_true",
        help="run tests that disturb everyone also on an existing cluster",
    )
    group.addoption(
        "--disruptive",
        choices=["short", "long"],
        default="short",
        help="long: also the tests that disturb the cluster for minutes (marker long)",
    )


def pytest_configure(config: pytest.Config) -> None:
    wanted = Wanted.from_options(config.option, config.invocation_params.args)
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        if WORKER_INPUT in worker_input:
            session = ClusterSession.join(wanted, worker_input[WORKER_INPUT], _teller(config))
            config.add_cleanup(session.close)
            config.stash[_session] = session
        return
    if not _needs_cluster(config):
        return
    try:
        config.stash[_session] = ClusterSession(wanted, _teller(config))
    except ValueError as error:  # SpecError: names every field that is wrong
        raise pytest.UsageError(str(error)) from None


def _needs_cluster(config: pytest.Config) -> bool:
    """Whether suites may be collected in order to be run."""
    if config.option.collectonly or config.option.help or config.option.version:
        return False
    if config.option.showfixtures or config.option.show_fixtures_per_test:
        return False
    if getattr(config.option, "markers", False):
        return False
    suites = config.rootpath / SUITES
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path.is_relative_to(suites) or suites.is_relative_to(path):
            return True
    return False


@pytest.hookimpl(tryfirst=True)  # before xdist starts workers: they inherit the namespace
def pytest_sessionstart(session: pytest.Session) -> None:
    clusters = session.config.stash.get(_session, None)
    if clusters is None or hasattr(session.config, "workerinput"):
        return
    session.config.stash[_pytest_session] = session
    terminate_like_interrupt()
    session.config.add_cleanup(lambda: _end(session.config, clusters))
    try:
        clusters.prepare()
    except ClusterError as error:
        pytest.exit(str(error), returncode=NO_CLUSTER)


def _end(config: pytest.Config, clusters: ClusterSession) -> None:
    with uninterrupted(clusters.tell):
        status = int(config.stash[_pytest_session].exitstatus)
        clusters.end(failed=status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED))


@pytest.hookimpl(optionalhook=True)  # xdist may be switched off
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist which run it belongs to."""
    clusters = node.config.stash.get(_session, None)
    if clusters is not None:
        node.workerinput[WORKER_INPUT] = clusters.run_id


def pytest_report_header(config: pytest.Config) -> list[str]:
    clusters = config.stash.get(_session, None)
    return clusters.header() if clusters else []


@pytest.hookimpl(trylast=True)  # marks come from the requirements
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Disruptive tests go last, and on somebody else's cluster only with permission."""
    items.sort(key=_is_disruptive)
    if config.getoption("--disruptive") == "short":
        for item in items:
            if item.get_closest_marker("long") is not None and not watched(config, item):
                item.add_marker(pytest.mark.skip(reason=TOO_LONG))
    if config.getoption("--cluster") == "existing" and not config.getoption("--allow-disruptive"):
        reason = "changes the cluster for everyone; --allow-disruptive permits it on this one"
        for item in items:
            if _is_disruptive(item) and not watched(config, item):
                item.add_marker(pytest.mark.skip(reason=reason))


def _is_disruptive(item: pytest.Item) -> bool:
    return item.get_closest_marker("disruptive") is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """Ordinary tests run side by side, a disruptive one alone. Waiting is in no test's time."""
    clusters = item.config.stash.get(_session, None)
    if clusters is None or "cluster" not in getattr(item, "fixturenames", ()):
        return (yield)
    with clusters.turn(alone=_is_disruptive(item)):
        result = yield
        if _is_disruptive(item) and not watched(item.config, item):
            clusters.settle(item.nodeid)
        return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """What fails while a node is gone says nothing about the cluster: that node is the reason."""
    try:
        return (yield)
    except (Blocked, Inconclusive, pytest.skip.Exception):
        raise
    except (Exception, pytest.fail.Exception) as error:
        clusters = item.config.stash.get(_session, None)
        ended = clusters.guest_ended() if clusters is not None else None
        if ended is None:
            raise
        raise Inconclusive(ended) from error


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    clusters = item.config.stash.get(_session, None)
    if clusters is not None and "cluster" in getattr(item, "fixturenames", ()):
        broken = clusters.broken()
        if broken:
            raise Inconclusive(broken)


def clusters_of(config: pytest.Config) -> ClusterSession:
    """The clusters' side of this session.

    Raises:
        UnusableError: the session is about none.
    """
    clusters = config.stash.get(_session, None)
    if clusters is None:
        raise UnusableError("Only tests of the suites get a cluster: name them on the command line")
    return clusters


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """The cluster under test; made by the first test that asks for it."""
    return clusters_of(pytestconfig).obtain()


@pytest.fixture(scope="session")
def spec(cluster: Cluster) -> ClusterSpec:
    """What the cluster was declared to be, as it was made."""
    return cluster.spec


def _teller(config: pytest.Config) -> Tell:
    """Shows a line of progress on the terminal, from any thread, also from a worker of xdist.

    Captured output would come only with a failure, long after it is of interest.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        terminal = os.dup(2)
    else:
        with capture.global_and_fixture_disabled():
            terminal = os.dup(2)

    def tell(line: str) -> None:
        os.write(terminal, f"{PROGRESS_PREFIX}{line}\n".encode())

    return tell
