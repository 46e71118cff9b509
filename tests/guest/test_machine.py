"""A guest as a process: console, marks, death, cable and clean-up. Its kernel is a small program.

What a real kernel does is shown by the live suites; here it is told what to say and when to end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import netns, processes
from clusters.commands import output, run
from clusters.errors import ClusterError
from clusters.guest import crew, machine
from clusters.guest.machine import Guest
from clusters.guest.plan import GuestPlan, guest_plans
from clusters.images import GuestFiles
from clusters.spec import ClusterSpec
from helpers.waiting import eventually

ALIVE = "echo 'guest: [8.25] containerd is up, waiting for the cluster'; exec sleep 600"
PANICS = "echo 'Kernel panic - not syncing: no init'; echo; exit 1"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="a guest's cable needs root and ip(8)",
)


@pytest.fixture
def cluster() -> Iterator[str]:
    """A name of our own; whatever carries it is ended afterwards."""
    name = f"dsc-test-{secrets.token_hex(3)}"
    yield name
    processes.end_all(processes.with_variable(processes.CLUSTER_VARIABLE, name))
    while machine._children:
        machine._children.pop().wait()


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with a bridge, as an engine has it."""
    name = f"dsc-test-{secrets.token_hex(3)}"
    netns.create(name)
    with netns.visiting(netns.handle(name)):
        run(["ip", "link", "add", "br0", "type", "bridge"])
    yield name
    netns.remove(name)


def kernel(files: GuestFiles, script: str) -> None:
    files.kernel.write_text(f"#!/bin/sh\n{script}\n")
    files.kernel.chmod(0o755)


def started(
    spec: ClusterSpec, files: GuestFiles, cluster: str, folder: Path, namespace: str
) -> tuple[GuestPlan, Guest]:
    plan = guest_plans(spec, cluster)[0]
    with netns.visiting(netns.handle(namespace)):
        return plan, machine.start(plan, spec, files, cluster, folder, "br0")


def links(namespace: str) -> str:
    return output(["ip", "-netns", namespace, "-details", "link", "show"])


def test_guest_is_found_by_its_record_and_its_mark_only(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(processes.RUN_VARIABLE, "run-that-ends-before")
    kernel(files, ALIVE)
    _, guest = started(spec, files, cluster, tmp_path, namespace)
    assert guest.alive
    assert guest.trouble() is None
    assert machine.guests_of(tmp_path) == [guest]
    assert processes.with_variable(processes.CLUSTER_VARIABLE, cluster) == [guest.process]
    # The end of a run ends what carries its mark, and a kept cluster outlives its run.
    assert guest.process not in processes.with_variable(
        processes.RUN_VARIABLE, "run-that-ends-before"
    )


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(),
    reason="no groups for sessions (CONFIG_SCHED_AUTOGROUP)",
)
def test_it_gets_more_of_processors_that_are_shared(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    kernel(files, ALIVE)
    _, guest = started(spec, files, cluster, tmp_path, namespace)
    group = Path(f"/proc/{guest.process.pid}/autogroup").read_text()
    assert group.endswith(f"nice {machine.NICE}\n")


def test_its_scripts_are_heard_with_their_times(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    kernel(files, ALIVE)
    _, guest = started(spec, files, cluster, tmp_path, namespace)
    said = eventually(guest.said, bool, within=10, every=0.1)
    assert said == [(8.25, "containerd is up, waiting for the cluster")]


def test_death_is_told_with_the_consoles_last_lines(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    kernel(files, f"sleep 0.5\n{PANICS}")
    plan, guest = started(spec, files, cluster, tmp_path, namespace)
    assert processes.wait_gone([guest.process], within=10)
    trouble = guest.trouble() or ""
    assert f"guest node {plan.name} ended" in trouble
    assert "  | Kernel panic - not syncing: no init" in trouble
    assert crew.Crew(((plan, guest),)).trouble() == trouble


def test_killed_under_the_tests_is_told_by_name(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    kernel(files, ALIVE)
    plan, guest = started(spec, files, cluster, tmp_path, namespace)
    assert crew.dead([guest]) is None
    guest.process.signal(signal.SIGKILL)
    assert processes.wait_gone([guest.process], within=10)
    assert (crew.dead(machine.guests_of(tmp_path)) or "").startswith(
        f"guest node {plan.name} ended"
    )


def test_failure_to_join_is_no_reason_to_wait(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    kernel(files, "echo 'guest: [30.1] failed to join: kubeadm ended with status 1'; sleep 600")
    _, guest = started(spec, files, cluster, tmp_path, namespace)
    trouble = eventually(guest.trouble, lambda text: text is not None, within=10, every=0.1)
    assert "could not join" in str(trouble)
    assert "kubeadm ended with status 1" in str(trouble)


def test_kernel_that_is_missing_is_an_error(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match="linux was not found"):
        started(spec, files, cluster, tmp_path, namespace)


def test_cable_is_a_silent_port_of_the_bridge_and_goes_with_its_cluster(
    spec: ClusterSpec, files: GuestFiles, cluster: str, namespace: str, tmp_path: Path
) -> None:
    kernel(files, ALIVE)
    plan, _ = started(spec, files, cluster, tmp_path / "one", namespace)
    other, _ = started(spec, files, f"{cluster}-other", tmp_path / "two", namespace)
    try:
        ports = output(["ip", "-netns", namespace, "link", "show", "master", "br0"])
        assert plan.port in ports
        assert f": {plan.device}@" not in ports
        far_end = output(["ip", "-netns", namespace, "address", "show", "dev", plan.device])
        assert "NOARP" in far_end
        assert "inet6" not in far_end
        machine.disconnect(cluster, namespace)
        machine.disconnect(cluster, namespace)  # nothing is left, and that is no error
        assert plan.device not in links(namespace)
        assert other.device in links(namespace)
    finally:
        victims = processes.with_variable(processes.CLUSTER_VARIABLE, f"{cluster}-other")
        processes.end_all(victims)


def test_clean_up_of_an_engine_that_is_gone() -> None:
    machine.disconnect("dsc-test", "dsc-test-no-such-namespace")


def test_console_shows_its_last_lines_without_empty_ones(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    assert "(nothing)" in machine.console_tail(console)
    console.write_text("".join(f"line {number}\r\n\r\n" for number in range(50)))
    assert machine.console_tail(console, 2) == "  | line 48\n  | line 49"


def test_times_of_a_node_are_those_of_the_api() -> None:
    node = {
        "metadata": {"creationTimestamp": "2026-11-24T08:00:10Z"},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T08:01:00Z"},
                {"type": "DiskPressure", "status": "False", "lastTransitionTime": ""},
            ]
        },
    }
    times = crew.node_times(node)
    assert times["ready"] - times["registered"] == 50
    node["status"]["conditions"][0]["status"] = "False"  # type: ignore[index]
    assert "ready" not in crew.node_times(node)
