"""What a machine must have to make clusters: all that is missing at once, in seconds, with fixes.

Standard library only, so that it can say what to install before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clusters.commands import PACKAGES, missing, run
from clusters.errors import CommandFailedError, PreflightError
from clusters.guest import host
from helpers.naming import PREFIX, cache_dir

ENGINE_TOOLS: Final = (
    "dockerd", "docker", "containerd", "runc", "iptables", "ip6tables", "ip", "nsenter",
)  # fmt: skip
BUILD_TOOLS: Final = ("debootstrap", "go")
# Of the kernel and the disk of guest nodes; a path stands for a package without a program.
GUEST_BUILD_TOOLS: Final = (
    "gcc", "make", "flex", "bison", "bc", "xz", "mkfs.ext4", "/usr/include/stdlib.h",
)  # fmt: skip
GIB: Final = 1 << 30
# Measured: three nodes copy 1.2 GiB each out of a 2 GiB image; a build from nothing needs more.
DISK_TO_RUN_GIB: Final = 8
DISK_TO_BUILD_GIB: Final = 20
MEMORY_GIB: Final = 4  # of three nodes and the probes
GUEST_MEMORY_GIB: Final = 2  # of each guest node
# Measured on a cluster of three: 4 of systemd, 7 of kubelet, 2 of containerd, 2 of Calico and 1 of
# kube-proxy on each node, 13 of the control plane. When they run out, kubelet and even systemd die
# with messages that name no cause (kind's documentation, known issues, "too many open files").
INOTIFY_PER_NODE: Final = 16
INOTIFY_PER_CLUSTER: Final = 16
INOTIFY_WATCHES: Final = 65_536
INOTIFY_RAISED: Final = 1024
INOTIFY_LINK: Final = "anon_inode:inotify"
GO_FIX: Final = "go was not found: install Go 1.26.8 or later (https://go.dev/dl/), put it on PATH"


@dataclass(frozen=True, slots=True)
class Need:
    """Something that is missing, and the exact fix."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be done, as far as it decides what is needed.

    Attributes:
        engine: whether a private engine has to be started.
        build: whether images have to be built.
        nodes: how many there are going to be on the host's kernel, 0 for no cluster.
        guests: how many nodes there are going to be with a kernel of their own.
    """

    engine: bool
    build: bool
    nodes: int = 3
    guests: int = 0


def debian_packages() -> tuple[str, ...]:
    """Debian packages that bring every tool of a private engine and of the image build."""
    return tuple(sorted({package for _, package in _packaged()}))


def missing_packages() -> tuple[str, ...]:
    """Those of them whose tools are not there."""
    return tuple(sorted({package for tool, package in _packaged() if not there(tool)}))


def _packaged() -> Iterator[tuple[str, str]]:
    for tool in (*ENGINE_TOOLS, *BUILD_TOOLS, *GUEST_BUILD_TOOLS):
        package = PACKAGES.get(Path(tool).name)
        if package:
            yield tool, package


def there(tool: str) -> bool:
    """Whether a program is on PATH, or a file that is named by its path exists."""
    return Path(tool).exists() if tool.startswith("/") else shutil.which(tool) is not None


def needs(plan: Plan) -> list[Need]:
    """All that is missing for a plan; empty when the machine is ready."""
    found = list(_tools(plan))
    found += _resources(plan)
    found += _inotify(plan.nodes)
    found += [Need(what, fix) for what, fix in host.needs(plan.guests)]
    if plan.engine:
        root = _root()
        found += root
        if not root:
            found += _kernel()
    return found


def check(plan: Plan) -> None:
    """Refuse a machine that cannot do it.

    Raises:
        PreflightError: lists all that is missing.
    """
    found = needs(plan)
    if found:
        count = "1 thing is" if len(found) == 1 else f"{len(found)} things are"
        lines = "".join(f"\n  - {need}" for need in found)
        raise PreflightError(f"{count} missing on this machine:{lines}")


def engine_answers() -> bool:
    """Whether the user's Docker engine answers."""
    try:
        asked = ["docker", "version", "--format", "{{.Server.Version}}"]
        return run(asked, check=False, timeout=10).returncode == 0
    except CommandFailedError:
        return False


def _tools(plan: Plan) -> Iterator[Need]:
    wanted = [*(ENGINE_TOOLS if plan.engine else ("docker", "ip"))]
    if plan.build:
        wanted += ["debootstrap", *(GUEST_BUILD_TOOLS if plan.guests else ())]
    absent = [tool for tool in wanted if not there(tool)]
    by_package: dict[str, list[str]] = {}
    for tool in absent:
        by_package.setdefault(PACKAGES[Path(tool).name], []).append(Path(tool).name)
    for tools in by_package.values():
        what, _, fix = missing(tools[0]).partition(": ")
        names = ", ".join(tools)
        yield Need(what if len(tools) == 1 else f"{names} were not found", fix)
    if plan.build and shutil.which("go") is None:
        what, _, fix = GO_FIX.partition(": ")
        yield Need(what, fix)


def _root() -> list[Need]:
    if os.geteuid() == 0:
        return []
    return [
        Need(
            "not root, and no Docker engine answers",
            "start Docker, set DOCKER_HOST, or run as root so that a private one can be started",
        )
    ]


def _resources(plan: Plan) -> Iterator[Need]:
    place = next(path for path in (cache_dir(), *cache_dir().parents) if path.exists())
    wanted = DISK_TO_BUILD_GIB if plan.build else DISK_TO_RUN_GIB
    free = shutil.disk_usage(place).free / GIB
    if free < wanted:
        yield Need(
            f"{free:.1f} GiB are free at {place}, {wanted} GiB are needed",
            "free some, or set XDG_CACHE_HOME to a directory on a larger disk",
        )
    memory = available_memory() / GIB
    needed = MEMORY_GIB + plan.guests * GUEST_MEMORY_GIB
    if memory < needed:
        yield Need(
            f"{memory:.1f} GiB of memory are available, {needed} GiB are needed",
            "end other programs, or use a profile with fewer nodes (--profile quick)",
        )


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that programs can get, by the kernel's own estimate."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def inotify_left(folder: Path = Path("/proc/sys/fs/inotify")) -> int:
    """How many inotify instances this user may still make; the kernel counts them per user."""
    return int((folder / "max_user_instances").read_text()) - _inotify_used(os.geteuid())


def _inotify_used(user: int) -> int:
    return sum(
        _inotify_of(process)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _owner(process) == user
    )


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:  # gone meanwhile
        return None


def _inotify_of(process: Path) -> int:
    """Instances of one process, by its folder in /proc."""
    used = 0
    with contextlib.suppress(OSError):  # another user's, or gone meanwhile
        for opened in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                used += str(opened.readlink()) == INOTIFY_LINK
    return used


def _inotify(nodes: int, folder: Path = Path("/proc/sys/fs/inotify")) -> Iterator[Need]:
    if not folder.exists() or not nodes:
        return
    wanted = INOTIFY_PER_CLUSTER + nodes * INOTIFY_PER_NODE
    left = inotify_left(folder)
    if left < wanted:
        yield Need(
            f"{left} inotify instances are left, a cluster of {nodes} nodes needs {wanted}",
            "remove another cluster (`python -m clusters list`), or as root "
            f"`sysctl -w fs.inotify.max_user_instances={INOTIFY_RAISED}`",
        )
    watches = int((folder / "max_user_watches").read_text())
    if watches < INOTIFY_WATCHES:
        yield Need(
            f"fs.inotify.max_user_watches is {watches}, {INOTIFY_WATCHES} are needed",
            f"sysctl -w fs.inotify.max_user_watches={INOTIFY_WATCHES}",
        )


def _kernel() -> Iterator[Need]:
    """Try what containers and their network need, in a namespace that is gone afterwards."""
    trials: list[tuple[str, str, Callable[[str], str]]] = [
        ("network namespaces, veth, bridge", "boot a kernel with CONFIG_NET_NS, CONFIG_VETH and "
         "CONFIG_BRIDGE (Debian's linux-image-amd64 has them)", _try_network),
        ("overlayfs", "boot a kernel with CONFIG_OVERLAY_FS, or put XDG_CACHE_HOME on ext4 or xfs",
         _try_overlay),
    ]  # fmt: skip
    for what, fix, attempt in trials:
        reason = attempt(f"{PREFIX}-trial-{secrets.token_hex(3)}")
        if reason:
            yield Need(f"the kernel does not give {what} ({reason})", fix)
    for family in ("ipv4", "ipv6"):
        if not Path(f"/proc/sys/net/{family}").exists():
            yield Need(f"the kernel has no {family}", f"boot without {family}.disable=1")


def _try_network(name: str) -> str:
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return ""  # reported as missing tools
    inside = ["nsenter", f"--net=/run/netns/{name}", "ip"]
    steps = [
        ["ip", "netns", "add", name],
        [*inside, "link", "set", "lo", "up"],
        [*inside, "link", "add", "trial-br", "type", "bridge"],
        [*inside, "link", "add", "trial-a", "type", "veth", "peer", "name", "trial-b"],
        [*inside, "link", "set", "trial-a", "master", "trial-br"],
        [*inside, "-6", "address", "add", "fd00::1/64", "dev", "trial-br"],
    ]
    try:
        return _first_failure(steps)
    finally:
        if Path(f"/run/netns/{name}").exists():
            run(["ip", "netns", "delete", name], check=False)


def _try_overlay(name: str) -> str:
    place = next(path for path in (cache_dir(), *cache_dir().parents) if path.exists())
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place) as temporary:
        folders = [Path(temporary) / part for part in ("lower", "upper", "work", "merged")]
        for folder in folders:
            folder.mkdir()
        lower, upper, work, merged = folders
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mounted = ["mount", "-t", "overlay", name, "-o", options, str(merged)]
        reason = _first_failure([mounted])
        if not reason:
            run(["umount", str(merged)], check=False)
        return reason


def _first_failure(steps: list[list[str]]) -> str:
    for step in steps:
        try:
            done = run(step, check=False, timeout=20)
        except (CommandFailedError, subprocess.SubprocessError) as error:
            return str(error)
        if done.returncode:
            return " ".join((done.stderr or done.stdout).split())[:200] or f"exit {done.returncode}"
    return ""
