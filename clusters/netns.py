"""Network namespaces: made with a name, entered by this process, removed.

Standard library and ``ip`` only. ``os.setns`` exists from Python 3.12 on; here it is called
through the C library, for Python 3.11. setns(2) moves one thread: enter before threads or
workers start, they inherit the namespace.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clusters.commands import run
from clusters.errors import EngineError

CLONE_NEWNET: Final = 0x40000000
HANDLES: Final = Path("/run/netns")  # where ip-netns(8) keeps them
# Path of a handle of the network namespace that the run came from, for children that need it.
HOME_VARIABLE: Final = "DSC_HOME_NETNS"


def handle(name: str) -> Path:
    """Path that names the namespace: for nsenter(1) and ``enter``."""
    return HANDLES / name


def create(name: str) -> Path:
    """Make a namespace whose loopback is up and which forwards both families.

    Raises:
        EngineError: the kernel or the privileges do not allow it.
    """
    path = handle(name)
    made = run(["ip", "netns", "add", name], check=False)
    if made.returncode:
        raise EngineError(
            f"A network namespace could not be made ({made.stderr.strip()}): run as root with "
            "CAP_SYS_ADMIN, on a kernel with CONFIG_NET_NS."
        )
    run(["nsenter", f"--net={path}", "ip", "link", "set", "lo", "up"])
    with visiting(path):
        _allow_forwarding()
    return path


def _allow_forwarding() -> None:
    # dockerd switches on IPv4 forwarding itself, IPv6 only in some releases.
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        sysctl = Path("/proc/sys/net") / name
        if not sysctl.exists():
            raise EngineError(
                f"/proc/sys/net/{name} is missing: boot a kernel with IPv6 (no ipv6.disable=1)."
            )
        sysctl.write_text("1")


def remove(name: str) -> None:
    """Remove a namespace's name; its devices go when the last process has left it."""
    path = handle(name)
    if path.exists():
        deleted = run(["ip", "netns", "delete", name], check=False)
        if deleted.returncode and path.exists():
            path.unlink()  # a handle without a mount: left by an interrupted `ip netns add`


def enter(path: Path) -> None:
    """Move this thread (and what it starts from now on) into a namespace.

    The namespace that it leaves stays reachable for ``at_home``, in this process and in those
    that it starts.

    Raises:
        EngineError: the namespace does not exist, or the privileges are missing.
    """
    if HOME_VARIABLE not in os.environ:
        home = os.open(current(), os.O_RDONLY | os.O_CLOEXEC)
        os.environ[HOME_VARIABLE] = f"/proc/{os.getpid()}/fd/{home}"
    _setns(path)


@contextmanager
def visiting(path: Path) -> Iterator[None]:
    """Be in another namespace while the block runs; only this thread, and what it starts."""
    back = os.open(current(), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(path)
        try:
            yield
        finally:
            _call_setns(back)
    finally:
        os.close(back)


@contextmanager
def at_home() -> Iterator[None]:
    """Be in the namespace that the run came from (it has the machine's network)."""
    home = os.environ.get(HOME_VARIABLE)
    if home is None:
        yield
    else:
        with visiting(Path(home)):
            yield


def inside(path: Path) -> bool:
    """Whether this thread is in the namespace that a path names."""
    try:
        return os.path.samestat(path.stat(), current().stat())
    except OSError:
        return False


def current() -> Path:
    return Path("/proc/thread-self/ns/net")


def _setns(path: Path) -> None:
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EngineError(
            f"Network namespace {path} cannot be entered ({error.strerror}): remove what is left "
            "of its run with `python -m clusters reap`, then start again."
        ) from error
    try:
        _call_setns(target)
    finally:
        os.close(target)


def _call_setns(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, CLONE_NEWNET):
        reason = os.strerror(ctypes.get_errno())
        raise EngineError(
            f"setns(2) into a network namespace failed ({reason}): run as root with CAP_SYS_ADMIN."
        )
