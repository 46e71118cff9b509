"""An OCI runtime that asks runc only for what this machine can give.

Where a capability is missing from the machine's bounding set, runc refuses every privileged
container ("unable to apply caps"), and kind's nodes are privileged. This program sits between
containerd and runc: it takes the missing capabilities, and an OOM score that only
CAP_SYS_RESOURCE may set, out of the container's ``config.json`` (``create``, ``run``) and out of
the process file of ``exec``, then becomes runc.

Run as a program, with no site-packages: standard library only, and nothing of this project.
usage: oci_runtime.py RUNC ARGUMENTS-OF-RUNC
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

# include/uapi/linux/capability.h: the bit number is the position.
_NAMES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
CAPABILITIES: Final = tuple(_NAMES.split())
NEEDED_FOR_LIMITS: Final = "CAP_SYS_RESOURCE"


def bounding_set(status: str | None = None) -> frozenset[str]:
    """Capabilities that a process here can have at most (``CapBnd`` of /proc/self/status)."""
    text = Path("/proc/self/status").read_text() if status is None else status
    line = next(line for line in text.splitlines() if line.startswith("CapBnd:"))
    mask = int(line.split()[1], 16)
    return frozenset(f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def known_to_kernel(last_cap: str | None = None) -> frozenset[str]:
    """Capabilities that the running kernel has (``/proc/sys/kernel/cap_last_cap``)."""
    last = Path("/proc/sys/kernel/cap_last_cap").read_text() if last_cap is None else last_cap
    return frozenset(f"CAP_{name}" for name in CAPABILITIES[: int(last) + 1])


def missing_capabilities() -> frozenset[str]:
    """What the kernel has and the bounding set has not: empty on an ordinary machine."""
    return known_to_kernel() - bounding_set()


def possible(process: dict[str, Any], bounding: frozenset[str]) -> dict[str, Any]:
    """The ``process`` object of the OCI runtime specification, without what cannot be given."""
    wanted = dict(process)
    capabilities = process.get("capabilities")
    if capabilities:
        wanted["capabilities"] = {
            kind: [name for name in names or [] if name in bounding]
            for kind, names in capabilities.items()
        }
    if NEEDED_FOR_LIMITS not in bounding:
        wanted.pop("oomScoreAdj", None)
        if process.get("rlimits"):
            wanted["rlimits"] = [_within_hard_limit(limit) for limit in process["rlimits"]]
    return wanted


def _within_hard_limit(limit: dict[str, Any]) -> dict[str, Any]:
    _, hard = resource.getrlimit(getattr(resource, limit["type"]))
    if hard == resource.RLIM_INFINITY:
        return limit
    return {**limit, "soft": min(limit["soft"], hard), "hard": min(limit["hard"], hard)}


def rewrite(arguments: Sequence[str], bounding: frozenset[str]) -> None:
    """Change in place the files that runc is about to read."""
    for flag, value in _options(arguments):
        if flag in ("--bundle", "-b") and not _is_exec(arguments):
            path = Path(value) / "config.json"
            document = json.loads(path.read_text())
            if document.get("process"):
                document["process"] = possible(document["process"], bounding)
                path.write_text(json.dumps(document))
        elif flag in ("--process", "-p") and _is_exec(arguments):
            path = Path(value)
            path.write_text(json.dumps(possible(json.loads(path.read_text()), bounding)))


def _is_exec(arguments: Sequence[str]) -> bool:
    return "exec" in arguments


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if equals:
            yield flag, value
        elif position + 1 < len(arguments):
            yield argument, arguments[position + 1]


def main() -> None:
    runc, *arguments = sys.argv[1:]
    rewrite(arguments, bounding_set())
    os.execv(runc, [runc, *arguments])  # noqa: S606  # becomes runc: no shell is involved


if __name__ == "__main__":
    main()
