"""Processes by identity: a pid alone is no name, because the kernel gives it to others later.

Standard library only: preflight and reaping must work before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Set for everything that a run starts, so that what outlives it can be found (/proc/PID/environ).
RUN_VARIABLE: Final = "DSC_RUN"
CLUSTER_VARIABLE: Final = "DSC_CLUSTER"
_STATE_FIELD = 0  # fields of /proc/PID/stat after the command name, proc(5) fields 3 and 22
_START_FIELD = 19


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot: pid, start time in clock ticks since boot, id of the boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now; None when there is none (or only a zombie)."""
        fields = _stat(pid)
        if fields is None or fields[_STATE_FIELD] in ("Z", "X"):
            return None
        return cls(pid, int(fields[_START_FIELD]), boot_id())

    @classmethod
    def own(cls) -> Identity:
        identity = cls.of(os.getpid())
        if identity is None:
            raise RuntimeError("/proc does not list this process: mount /proc")
        return identity

    @property
    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is left in peace."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, grace: float = 5.0) -> None:
        """SIGTERM, and SIGKILL when that is not enough within ``grace`` seconds."""
        end_all([self], grace)

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "started": self.started, "boot": self.boot}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Identity:
        return cls(int(value["pid"]), int(value["started"]), str(value["boot"]))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def end_all(victims: Iterable[Identity], grace: float = 5.0) -> None:
    """End processes: SIGTERM to all, SIGKILL to those that are left after ``grace`` seconds."""
    left = [victim for victim in victims if victim.alive]
    for victim in left:
        victim.signal(signal.SIGTERM)
    if not wait_gone(left, grace):
        for victim in left:
            victim.signal(signal.SIGKILL)
        wait_gone(left, grace)


def wait_gone(victims: Iterable[Identity], within: float) -> bool:
    """Whether all of some processes are gone within some seconds."""
    deadline = time.monotonic() + within
    return all(_gone(victim, deadline) for victim in victims)


def _gone(victim: Identity, deadline: float) -> bool:
    try:
        handle = os.pidfd_open(victim.pid)
    except ProcessLookupError:
        return True
    try:
        # The pid may have been given to another process since: then this one is gone.
        while victim.alive:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([handle], [], [], left)
        return True
    finally:
        os.close(handle)


def every() -> Iterator[Identity]:
    """All processes of the machine that can be seen, except this one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            identity = Identity.of(int(entry.name))
            if identity is not None:
                yield identity


def with_variable(name: str, value: str) -> list[Identity]:
    """Processes that were started with an environment variable of this value."""
    wanted = f"{name}={value}".encode()
    return _where(lambda pid: wanted in _read(pid, "environ").split(b"\0"))


def with_argument_below(folder: Path) -> list[Identity]:
    """Processes one of whose arguments is a path below a folder."""
    prefix = f"{folder}/".encode()
    return _where(
        lambda pid: any(
            part.startswith(prefix) or b"=" + prefix in part or b"//" + prefix in part
            for part in _read(pid, "cmdline").split(b"\0")
        )
    )


def in_network_namespace(handle: Path) -> list[Identity]:
    """Processes whose network namespace is the one that ``handle`` is bound to."""
    try:
        wanted = handle.stat()
    except OSError:
        return []

    def inside(pid: int) -> bool:
        try:
            return os.path.samestat(wanted, Path(f"/proc/{pid}/ns/net").stat())
        except OSError:
            return False

    return _where(inside)


def _where(holds: Callable[[int], bool]) -> list[Identity]:
    return [identity for identity in every() if holds(identity.pid)]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone, or another user's
        return b""


def _stat(pid: int) -> list[str] | None:
    text = _read(pid, "stat").decode(errors="replace")
    # The command name may hold spaces and parentheses: the last one ends it.
    return text.rpartition(")")[2].split() or None
