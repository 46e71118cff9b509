"""The real private Docker engine, with a container instead of a cluster: nothing may be left.

Needs root and Docker's programs, no Kubernetes and no image from anywhere.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import dockerd, engine, processes
from clusters.commands import output, run
from clusters.engine import Places
from clusters.errors import EngineError
from clusters.processes import Identity
from tests.lifecycle.project import Project, interrupt

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="a private engine needs root"),
    pytest.mark.skipif(shutil.which("dockerd") is None, reason="Docker's programs are missing"),
    pytest.mark.timeout(300),
]
PROGRAMS = ("/bin/sleep", "/bin/cat")


@pytest.fixture
def places(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Where the engine of this test's own cache is; whatever happens, it is removed."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, project.environment[name])
    for name in ("DOCKER_HOST", processes.RUN_VARIABLE, processes.CLUSTER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    write_image(project.root / "tiny.tar")
    found = Places.of_cache()
    assert traces(found) == []
    yield found
    with engine.transition_lock():
        engine.stop()
    shutil.rmtree(found.data_root, ignore_errors=True)


def write_image(path: Path) -> None:
    """Two programs of this machine with their libraries: an image without a download."""
    files = set(PROGRAMS)
    for program in PROGRAMS:
        files |= {word for word in output(["ldd", program]).split() if word.startswith("/")}
    with tarfile.open(path, "w") as archive:
        for name in files:
            archive.add(Path(name).resolve(), arcname=name)


def traces(places: Places) -> list[str]:
    """Everything on the machine that belongs to an engine, but for its cache."""
    found = [str(p) for p in (places.run_dir, places.namespace, engine.record_path()) if p.exists()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if places.name in line or str(places.data_root) in line]
    found += [str(folder) for folder in dockerd._cgroup_folders(places.cgroup)]
    found += [f"process {p.pid}" for p in processes.with_argument_below(places.run_dir)]
    found += [f"in cgroup {pid}" for pid in dockerd._cgroup_members(places.cgroup)]
    return found


def veths() -> set[str]:
    lines = output(["ip", "-brief", "link", "show", "type", "veth"]).splitlines()
    return {line.split()[0] for line in lines}


def test_privileged_containers_run_and_nothing_of_the_engine_stays(places: Places) -> None:
    home, before = engine.private_engine(), veths()
    with engine.transition_lock():
        assert not engine.stop(), "nothing was started yet"
    engine.start(home)
    engine.start(home)  # a second time changes nothing
    run([*home.docker, "import", f"{os.environ['XDG_CACHE_HOME']}/../tiny.tar", "tiny"])
    run(
        [
            *home.docker,
            "run",
            "--detach",
            "--privileged",
            "--name",
            "one",
            "tiny",
            "/bin/sleep",
            "99",
        ]
    )
    forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
    seen = output([*home.docker, "exec", "--privileged", "one", "/bin/cat", "/proc/self/status"])
    assert "CapEff:\t0000000000000000" not in seen
    inside = ["nsenter", f"--net={places.namespace}", "cat", forwarding]
    assert output(inside) == "1"
    assert veths() == before, "a device of the engine is in the machine's own namespace"
    with engine.transition_lock():
        assert engine.stop()
    assert traces(places) == []


def test_engine_after_a_crash_begins_clean(places: Places) -> None:
    """Containers of a killed dockerd run on; the next start ends and removes them."""
    home = engine.private_engine()
    engine.start(home)
    run([*home.docker, "import", f"{os.environ['XDG_CACHE_HOME']}/../tiny.tar", "tiny"])
    run([*home.docker, "run", "--detach", "--name", "one", "tiny", "/bin/sleep", "98"])
    kill_engine(places)
    assert dockerd._cgroup_members(places.cgroup), "the container was to survive its dockerd"
    engine.start(home)
    assert output([*home.docker, "ps", "--all", "--quiet"]) == ""
    assert output([*home.docker, "images", "--format", "{{.Repository}}"]) == "tiny"
    kill_engine(places)
    with engine.transition_lock():
        engine.stop()
    assert traces(places) == []


def kill_engine(places: Places) -> None:
    daemon = engine._recorded_daemon()
    assert daemon is not None
    daemon.signal(signal.SIGKILL)
    assert processes.wait_gone([daemon], within=10)


def test_a_second_dockerd_on_the_same_data_is_refused(
    places: Places, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start(engine.private_engine())
    first = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", str(project.root / "other"))
    with pytest.raises(EngineError, match=r"is in use by dockerd \(pid \d+\).*--reuse-cluster"):
        engine.check_free(engine.private_engine())
    monkeypatch.setenv("XDG_STATE_HOME", first)
    assert engine.running()


ENDINGS = ["passes", "fails", "ctrl-c", "sigterm", "worker killed", "killed, then reap",
           "killed, then the next run"]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left_however_a_run_ends(project: Project, places: Places, ending: str) -> None:
    before = veths()
    end_a_run(project, places, ending)
    assert traces(places) == []
    assert project.left == []
    assert veths() == before


def end_a_run(project: Project, places: Places, ending: str) -> None:
    if ending == "passes":
        code, text = project.pytest("-n2", mode="real")
        assert code == 0, text
    elif ending == "fails":
        assert project.pytest("-n2", mode="real fail")[0] == 1
    elif ending == "worker killed":
        assert project.pytest("-n2", mode="real die")[0] != 0
    else:
        child = project.start("-n2", mode="real slow")
        project.wait_for("started")
        assert traces(places) != [], "there must be something to leave behind"
        number = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}.get(ending, signal.SIGKILL)
        interrupt_and_wait(child, number, group=ending == "ctrl-c")
        if ending == "killed, then reap":
            assert traces(places) != []
            assert project.clusters("reap", mode="real")[0] == 0
        elif ending == "killed, then the next run":
            assert traces(places) != []
            code, text = project.pytest("-n0", mode="real")
            assert code == 0, text


def interrupt_and_wait(
    child: subprocess.Popen[str], number: signal.Signals, *, group: bool
) -> None:
    identity = Identity.of(child.pid)
    interrupt(child, number, group=group)
    assert identity is not None
    assert not identity.alive


def test_a_run_that_ends_leaves_the_engine_to_the_other(project: Project, places: Places) -> None:
    first = project.start("-n0", mode="real slow")
    project.wait_for("started")
    code, text = project.pytest("--collect-only", mode="real")
    assert code == 0, text
    code, text = project.clusters("down", "nothing", mode="real")
    assert code == 2
    assert engine.running()
    interrupt(first, signal.SIGINT, group=True)
    assert traces(places) == []
