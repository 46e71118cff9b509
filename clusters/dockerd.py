"""The private dockerd itself: started, waited for, stopped, and cleared away after a crash.

Options, each for a reason that was met on real machines: a network namespace by nsenter, because
``ip netns exec`` hides /sys/fs/cgroup; a config file of our own, so that the machine's
daemon.json has no say; one parent cgroup, so that every process of every container can be found.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clusters import oci_runtime, preflight, processes
from clusters.commands import missing, run, tail
from clusters.errors import CommandFailedError, EngineError
from clusters.processes import Identity
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from clusters.engine import Places

TOOLS: Final = preflight.ENGINE_TOOLS
STOP_SECONDS: Final = 20.0
# dockerd outlives this process on purpose: a reference keeps Python from warning about that.
_children: list[subprocess.Popen[bytes]] = []
CGROUPS: Final = Path("/sys/fs/cgroup")
# In a namespace of our own every range is free; these are docker0's, where nothing of ours runs.
BRIDGE_ADDRESS: Final = "10.242.0.1/24"
BRIDGE_NETWORK_V6: Final = "fd00:10:242::/64"
# What dockerd says in its log -> what to do about it.
FIXES: Final = {
    "overlay": "boot a kernel with overlayfs (CONFIG_OVERLAY_FS), or put XDG_CACHE_HOME on a "
    "file system that overlayfs can use (ext4, xfs).",
    "iptables": "boot a kernel with nf_tables or iptables NAT for both families.",
    "bridge": "boot a kernel with CONFIG_BRIDGE and CONFIG_VETH.",
    "no space left": "free disk space where XDG_CACHE_HOME is.",
}


def check_prerequisites() -> None:
    """Refuse at once what cannot work.

    Raises:
        EngineError: not root, or tools are missing.
    """
    if os.geteuid() != 0:
        raise EngineError(
            "No Docker engine answers, and only root can start a private one: start Docker, set "
            "DOCKER_HOST, or run as root."
        )
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        raise EngineError(
            "No Docker engine answers, and a private one cannot be started: "
            + "; ".join(missing(tool) for tool in absent)
        )


def start(places: Places, started: Callable[[Identity], None], within: float) -> None:
    """Start dockerd and wait until it answers; ``started`` gets its identity at once.

    Raises:
        EngineError: another dockerd has the data root, or this one did not come up.
    """
    places.data_root.mkdir(parents=True, exist_ok=True)
    places.run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    config = places.run_dir / "daemon.json"
    config.write_text(json.dumps(_configuration(places), indent=1))
    lock = _locked(places.lock)
    try:
        with places.log.open("ab") as log:
            child = subprocess.Popen(
                ["nsenter", f"--net={places.namespace}", "dockerd", "--config-file", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C at the terminal is for the run, not for dockerd
                pass_fds=[lock],  # the lock lives as long as dockerd and its shims
                cwd="/",
            )
    finally:
        os.close(lock)
    _children.append(child)
    daemon = Identity.of(child.pid)
    if daemon is None:
        raise EngineError(f"dockerd ended at once:\n{tail(places.log)}")
    started(daemon)
    wait_answering(places, daemon, within)


def check_free(places: Places) -> None:
    """See that no other dockerd has the data root.

    Raises:
        EngineError: who has it, and what to do.
    """
    if places.lock.exists():
        os.close(_locked(places.lock))


def wait_answering(places: Places, daemon: Identity, within: float) -> None:
    """Wait until dockerd answers.

    Raises:
        EngineError: it ended, or does not answer in time.
    """
    from clusters.engine import server_version

    def answers() -> str:
        try:
            return server_version(("docker", "--host", f"unix://{places.socket}"))
        except CommandFailedError:
            return ""

    try:
        eventually(
            answers,
            bool,
            within=within,
            every=0.2,
            fatal=lambda _: None if daemon.alive else "dockerd ended",
            what="the private dockerd answers",
        )
    except NotSettled as error:
        text = tail(places.log)
        fix = next((fix for sign, fix in FIXES.items() if sign in text.lower()), "see its log.")
        raise EngineError(
            f"The private dockerd did not start; likely fix: {fix}\n{text}"
        ) from error


def stop(places: Places, daemon: Identity) -> None:
    """End all containers and then dockerd."""
    remove_leftovers(places)
    daemon.end(STOP_SECONDS)


def remove_leftovers(places: Places) -> None:
    """Remove every container (with its volumes) and network; images and build cache stay."""
    docker = ("docker", "--host", f"unix://{places.socket}")
    containers = run([*docker, "ps", "--all", "--quiet"], check=False).stdout.split()
    if containers:
        run([*docker, "rm", "--force", "--volumes", *containers], check=False, timeout=120)
    run([*docker, "network", "prune", "--force"], check=False)
    run([*docker, "volume", "prune", "--force"], check=False, timeout=120)


def clear(places: Places) -> None:
    """Remove what an engine that does not run any more left: processes, mounts, files, cgroups.

    dockerd's own network namespace stays: processes of the run may be in it.
    """
    left = processes.with_argument_below(places.run_dir)
    processes.end_all([p for p in left if _is_engine(p.pid)], grace=2.0)
    _kill(_cgroup_members(places.cgroup))
    _unmount_below((places.exec_root, places.data_root, places.run_dir))
    shutil.rmtree(places.run_dir, ignore_errors=True)
    _remove_cgroups(places.cgroup)


def _is_engine(pid: int) -> bool:
    # Others have the run directory in their arguments too: `docker --host unix:///run/...`.
    name = Path(f"/proc/{pid}/comm")
    try:
        return name.read_text().strip().startswith(("dockerd", "containerd", "docker-proxy"))
    except OSError:
        return False


def _configuration(places: Places) -> dict[str, object]:
    configuration: dict[str, object] = {
        "hosts": [f"unix://{places.socket}"],
        "data-root": str(places.data_root),
        "exec-root": str(places.exec_root),
        "pidfile": str(places.pidfile),
        "bip": BRIDGE_ADDRESS,
        "ipv6": True,
        "fixed-cidr-v6": BRIDGE_NETWORK_V6,
        "ip6tables": True,
        "experimental": True,  # until Docker 27, ip6tables was an experiment
        "cgroup-parent": places.cgroup,
        "exec-opts": ["native.cgroupdriver=cgroupfs"],  # systemd may not run here
        "storage-driver": "overlay2",
        "log-level": "warn",
        "log-driver": "json-file",
        "log-opts": {"max-size": "20m", "max-file": "1"},
        "shutdown-timeout": 5,
    }
    if oci_runtime.missing_capabilities():
        configuration["runtimes"] = {"dsc": {"path": str(_install_runtime(places))}}
        configuration["default-runtime"] = "dsc"
    return configuration


def _install_runtime(places: Places) -> Path:
    """Put the OCI runtime where it stays while the engine runs, whatever the checkout does."""
    program = places.run_dir / "oci_runtime.py"
    shutil.copyfile(Path(oci_runtime.__file__), program)
    runc = shutil.which("runc") or "/usr/sbin/runc"
    starter = places.run_dir / "oci-runtime"
    # -I -S: no environment, no site-packages: 15 ms for each start instead of 60.
    starter.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {program} {runc} "$@"\n')
    starter.chmod(0o755)
    return starter


def _environment() -> dict[str, str]:
    # dockerd is nobody's child: it outlives the run, so it must not carry the run's marks.
    ours = (processes.RUN_VARIABLE, processes.CLUSTER_VARIABLE, "DOCKER_HOST")
    return {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("PYTEST")}


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        holders = ", ".join(_holders(path)) or "another process"
        raise EngineError(
            f"{path.parent / 'docker'} is in use by {holders}: wait for that run to end, use its "
            "cluster (--reuse-cluster), or set XDG_CACHE_HOME to have another cache."
        ) from error
    return descriptor


def _holders(path: Path) -> Iterable[str]:
    for process in processes.every():
        try:
            opened = [f.readlink() for f in Path(f"/proc/{process.pid}/fd").iterdir()]
        except OSError:
            continue
        if path in opened:
            name = Path(f"/proc/{process.pid}/comm").read_text().strip()
            yield f"{name} (pid {process.pid})"


def _cgroup_folders(cgroup: str) -> list[Path]:
    """The engine's cgroup in each hierarchy: one of cgroup v2, one per controller of v1."""
    name = cgroup.lstrip("/")
    candidates = [CGROUPS / name, *(h / name for h in CGROUPS.iterdir() if h.is_dir())]
    return [folder for folder in candidates if folder.is_dir()]


def _cgroup_members(cgroup: str) -> set[int]:
    members: set[int] = set()
    for folder in _cgroup_folders(cgroup):
        for listing in folder.rglob("cgroup.procs"):
            try:
                members.update(map(int, listing.read_text().split()))
            except OSError:
                continue
    return members


def _kill(pids: Iterable[int]) -> None:
    victims = [identity for pid in pids if (identity := Identity.of(pid)) is not None]
    for victim in victims:
        victim.signal(signal.SIGKILL)
    processes.wait_gone(victims, within=5.0)


def _remove_cgroups(cgroup: str) -> None:
    for top in _cgroup_folders(cgroup):
        folders = [path for path in top.rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, key=lambda path: -len(path.parts)), top]:
            try:
                folder.rmdir()
            except OSError:
                break  # still in use: the next clear takes it


def _unmount_below(roots: Iterable[Path]) -> None:
    """Detach what is mounted below some folders, deepest first."""
    # dockerd binds its data root onto itself: the folders themselves may be mounts.
    prefixes = tuple(f"{root}/" for root in roots)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if f"{p}/".startswith(prefixes)), key=len, reverse=True):
        run(["umount", "--lazy", point], check=False)
