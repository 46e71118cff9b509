"""Runs that end well, fail, are interrupted or killed: made once, told to all, nothing left."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from clusters.processes import Identity, wait_gone
from helpers.waiting import eventually
from tests.lifecycle.project import USES_CLUSTER, Project, interrupt, records

if TYPE_CHECKING:
    import subprocess

FAILS = "\ndef test_fails(cluster):\n    assert False\n"


def test_one_cluster_for_all_workers(project: Project) -> None:
    code, output = project.pytest("-n4", mode="brief")
    assert code == 0, output
    assert "6 passed" in output
    assert (project.count("create"), project.count("remove")) == (1, 1)
    assert project.left == []


def test_without_xdist(project: Project) -> None:
    code, output = project.pytest("-p", "no:xdist")
    assert code == 0, output
    assert project.left == []


def test_failed_creation_is_tried_once_and_told_to_all(project: Project) -> None:
    code, output = project.pytest("-n4", mode="fail")
    assert code == 1
    assert project.count("create") == 1
    raised = [x for x in output.splitlines() if x.startswith("E  ") and "UnusableError: " in x]
    assert len(raised) == 6
    assert all("the stand-in was told to fail" in line for line in raised)
    assert project.left == []


def test_log_of_a_failed_creation_outlives_the_run(project: Project) -> None:
    _, output = project.pytest(mode="fail")
    logs = list((project.root / "cache").rglob("logs/*.log"))
    assert [log.read_text() for log in logs] == ["line of the log\n"]
    assert str(logs[0]) in output


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_the_cluster_is_made(
    project: Project, workers: str, number: signal.Signals
) -> None:
    child = project.start(workers, mode="slow")
    project.wait_for("started")
    interrupt(child, number, group=number is signal.SIGINT)
    assert project.count("create") == 1
    assert project.left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_test_runs(project: Project, number: signal.Signals) -> None:
    project.suite(
        "import os, signal, pathlib\n"
        "def test_waits(cluster):\n"
        "    with open(os.environ['DSC_TEST_PROJECT'] + '/events.log', 'a') as log:\n"
        "        log.write('waiting\\n')\n"
        "    signal.pause()\n"
    )
    child = project.start("-n2")
    project.wait_for("waiting")
    interrupt(child, number, group=number is signal.SIGINT)
    assert project.count("remove") == 1
    assert project.left == []


def test_second_ctrl_c_does_not_stop_the_cleanup(project: Project) -> None:
    child = project.start("-n0", mode="slow")
    project.wait_for("started")
    os.killpg(child.pid, signal.SIGINT)
    project.wait_for("remove")
    interrupt(child, signal.SIGINT, group=True)
    assert project.left == []


def test_worker_killed_while_it_makes_the_cluster(project: Project) -> None:
    """The others are told, nobody tries again, and what went on without the worker is ended."""
    code, output = project.pytest("-n2", mode="die")
    assert code != 0
    assert project.count("create") == 1
    assert "was interrupted" in output or "crashed" in output
    assert project.left == []


def test_worker_killed_while_a_test_runs(project: Project) -> None:
    project.suite(
        "import os, signal\n"
        "def test_dies(cluster):\n    os.kill(os.getpid(), signal.SIGKILL)\n", "test_dies.py"
    )  # fmt: skip
    code, output = project.pytest("-n2")
    assert code != 0, output
    assert project.count("remove") == 1
    assert project.left == []


KILLS_GUEST = """
import os, signal, pytest
from clusters import processes
from clusters.guest.machine import guests_of
from clusters.records import clusters_dir

@pytest.mark.parametrize("how", ["assert", "fail", "error"])
def test_meets_it(cluster, how):
    for guest in guests_of(clusters_dir() / cluster.name):
        guest.process.signal(signal.SIGKILL)
        processes.wait_gone([guest.process], within=10)
    if how == "fail":
        pytest.fail("packets were lost")
    if how == "error":
        raise OSError("the agent does not answer")
    assert how == "packets arrived"
"""


def test_guest_that_ends_under_the_tests_is_named_and_nothing_is_judged(project: Project) -> None:
    project.suite(KILLS_GUEST)
    project.suite(USES_CLUSTER.format(n="later"), "test_later.py")
    code, output = project.pytest("-n0", mode="guest")
    assert code == 1
    raised = [x for x in output.splitlines() if x.startswith("E  ") and "Inconclusive: " in x]
    assert len(raised) == 4, output  # the one that met it, and all after it
    assert all("-ipvs ended" in line for line in raised)
    assert "  | last words" in output
    assert project.left == []


def test_guest_that_lives_changes_no_verdict(project: Project) -> None:
    project.suite(FAILS)
    code, output = project.pytest("-n0", mode="guest")
    assert code == 1
    assert "assert False" in output
    assert "Inconclusive" not in output
    assert project.left == []


def test_guest_of_a_killed_run_is_ended_by_the_next(project: Project) -> None:
    project.suite(
        "import signal\ndef test_waits(cluster):\n    open('waits', 'w').close(); signal.pause()\n"
    )
    child = project.start("-n0", mode="guest")
    eventually((project.root / "waits").exists, bool, within=60, every=0.1)
    child.kill()
    child.wait()
    code, _ = project.clusters("reap")
    assert code == 0
    assert project.left == []


def _killed(project: Project) -> subprocess.Popen[str]:
    child = project.start("-n0", mode="slow")
    project.wait_for("started")
    interrupt(child, signal.SIGKILL, group=False)
    assert project.left != []
    return child


def test_next_run_removes_what_a_killed_run_left(project: Project) -> None:
    _killed(project)
    orphan = int(project.events[-1].split()[1])
    code, output = project.pytest("-n2", mode="prepare")
    assert code == 0, output
    assert Identity.of(orphan) is None
    assert project.left == []


def test_reap_removes_what_a_killed_run_left(project: Project) -> None:
    _killed(project)
    code, output = project.clusters("reap")
    assert code == 0
    assert "removed: cluster dsc-" in output
    assert project.left == []
    assert "nothing was left" in project.clusters("reap")[1]


def test_reap_leaves_a_live_run_alone(project: Project) -> None:
    child = project.start("-n0", mode="slow")
    project.wait_for("started")
    assert "nothing was left" in project.clusters("reap")[1]
    assert project.count("remove") == 0
    assert child.poll() is None
    interrupt(child, signal.SIGINT, group=True)
    assert project.left == []


def test_list_names_what_a_killed_run_left(project: Project) -> None:
    _killed(project)
    _, output = project.clusters("list")
    assert "of a dead run" in output
    assert "dead: `python -m clusters reap`" in output


def test_kept_cluster_is_reused_and_removed_by_name(project: Project) -> None:
    code, output = project.pytest("-n2", "--keep-cluster")
    assert code == 0
    assert project.count("remove") == 0
    name = records(project, "clusters/*/record.json")[0]["cluster"]["name"]
    assert f"--reuse-cluster {name}" in output
    assert f"python -m clusters down {name}" in output
    assert "nothing was left" in project.clusters("reap")[1]
    code, output = project.pytest("-n2", "--reuse-cluster", name)
    assert code == 0, output
    assert (project.count("create"), project.count("remove")) == (1, 0)
    assert project.clusters("down", name)[0] == 0
    assert project.left == []


@pytest.mark.parametrize(("fails", "kept"), [(True, 1), (False, 0)])
def test_keep_on_failure(project: Project, fails: bool, kept: int) -> None:
    if fails:
        project.suite(FAILS, "test_fails.py")
    project.pytest("-n2", "--keep-cluster=on-failure")
    assert len(records(project, "clusters/*/record.json")) == kept


def test_two_runs_at_once_have_a_cluster_each(project: Project) -> None:
    first = project.start("-n0", mode="slow")
    project.wait_for("started")
    code, output = project.pytest("-n0")
    assert code == 0, output
    assert project.count("create") == 2
    assert first.poll() is None
    interrupt(first, signal.SIGINT, group=True)
    assert project.left == []


def test_down_of_an_unknown_cluster_says_so(project: Project) -> None:
    code, output = project.clusters("down", "nothing")
    assert code == 2
    assert "there is no cluster nothing: see `python -m clusters list`" in output


def test_unknown_cluster_to_reuse(project: Project) -> None:
    code, output = project.pytest("--reuse-cluster", "nothing")
    assert code == 4
    assert "There is no cluster nothing to reuse" in output
    assert project.left == []


def test_disruptive_tests_run_alone_and_last(project: Project) -> None:
    project.suite(
        "import os, time, pytest\n"
        "from helpers.waiting import consistently\n"
        "def span(name):\n"
        "    began = time.monotonic()\n"
        "    consistently(lambda: 1, lambda _: True, during=0.3)\n"
        "    with open(os.environ['DSC_TEST_PROJECT'] + '/spans', 'a') as log:\n"
        "        log.write(f'{name} {began} {time.monotonic()}\\n')\n"
        "@pytest.mark.disruptive\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_disturbs(cluster, n):\n    span('alone')\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "def test_ordinary(cluster, n):\n    span('shared')\n"
    )
    code, output = project.pytest("-n3")
    assert code == 0, output
    lines = [line.split() for line in (project.root / "spans").read_text().splitlines()]
    spans = [(name, float(began), float(ended)) for name, began, ended in lines]
    for name, began, ended in spans:
        if name == "alone":
            others = [s for s in spans if s != (name, began, ended)]
            assert all(o[2] <= began or o[1] >= ended for o in others), spans
    assert [s[0] for s in sorted(spans, key=lambda s: s[1])][-2:] == ["alone", "alone"]
    assert project.left == []


@pytest.mark.parametrize("arguments", [("--collect-only",), ("--fixtures",), ("--markers",)])
def test_looking_prepares_nothing(project: Project, arguments: tuple[str, ...]) -> None:
    project.pytest(*arguments)
    assert project.events == []
    assert not project.state.exists()


def test_other_tests_prepare_nothing(project: Project) -> None:
    (project.root / "tests").mkdir()
    (project.root / "tests" / "test_other.py").write_text("def test_other():\n    pass\n")
    code, _ = project.pytest("tests")
    assert code == 0
    assert project.events == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "nonsense=1"), "nonsense: unknown field"),
        (("--set", "node_cidr_mask.ipv6=200"), "node_cidr_mask.ipv6"),
        (("--profile", "natve"), "did you mean native?"),
        (("--context", "x"), "add --cluster=existing"),
        (("--cluster=existing", "--reuse-cluster", "x"), "leave out one of them"),
    ],
)
def test_bad_options_are_refused_at_once(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    code, output = project.pytest(*arguments)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert message in output
    assert project.events == []
    assert project.left == []


def test_header_says_what_is_used(project: Project) -> None:
    _, output = project.pytest("-n2")
    assert "cluster: made by this run, profile native: Kubernetes" in output


def test_record_of_a_run_names_its_owner(project: Project) -> None:
    child = project.start("-n0", mode="slow")
    project.wait_for("started")
    (record,) = records(project, "runs/*/run.json")
    owner = Identity.from_json(record["owner"])
    assert (owner.pid, owner.alive) == (child.pid, True)
    interrupt(child, signal.SIGINT, group=True)
    assert wait_gone([owner], within=5)
