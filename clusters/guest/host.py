"""What guest nodes need of the machine. Standard library only, like all of preflight."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# A guest's memory is a file that it maps, also for code: on disk it would be written back for ever.
MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108  # the kernel's own tmpfs, no name is made there
MEMORY_MIB: Final = 3072
GIB: Final = 1 << 30
LEAVE_OUT: Final = "or leave the guest node out (--without-guest)"


def needs(guests: int, folder: Path = MEMORY_FOLDER) -> Iterator[tuple[str, str]]:
    """What is missing for some guest nodes, each with its fix; nothing for none."""
    if not guests:
        return
    if platform.machine() != "x86_64":
        yield (
            f"nodes with a kernel of their own run on x86_64, this is {platform.machine()}",
            "use a kernel with ip_vs and --profile native, or --without-guest",
        )
    if os.geteuid() != 0:
        yield (
            "not root, and a guest node is plugged into the network of the other nodes",
            f"run as root, {LEAVE_OUT}",
        )
    wanted = guests * MEMORY_MIB << 20
    try:
        status = os.statvfs(folder)
    except OSError:
        yield (
            f"{folder} is missing, guest nodes keep their memory there",
            (f"mount -t tmpfs tmpfs {folder}, {LEAVE_OUT}"),
        )
        return
    if status.f_flag & os.ST_NOEXEC:
        yield (
            f"{folder} is mounted noexec, and guest nodes run code in it",
            f"mount -o remount,exec {folder}, {LEAVE_OUT}",
        )
    free = status.f_bavail * status.f_frsize
    if free < wanted:
        yield (
            f"{free / GIB:.1f} GiB are free in {folder}, guest nodes need {wanted / GIB:.0f} GiB",
            f"mount -o remount,size={wanted / GIB + 1:.0f}G {folder}, {LEAVE_OUT}",
        )
