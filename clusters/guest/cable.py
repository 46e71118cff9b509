"""The queue where a guest's frames wait until its kernel takes them."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clusters.errors import ClusterError
from clusters.processes import Identity
from helpers.agents.remote.capture import ETH_P_ALL
from helpers.agents.remote.sockets import big_buffer

# The driver leaves its packet socket with net.core.rmem_default: 208 KiB hold 270 small frames. A
# guest that computes is slower than others send: of a suite with two workers 8,815 frames were
# dropped there in 20 minutes, 14 of 200 datagrams in one moment. `ss -0m` counts them (d).
QUEUE_BYTES: Final = 32 << 20
_PIDFD_GETFD: Final = 438  # the same number on every architecture, see pidfd_getfd(2)


def lengthen_queue(process: Identity) -> bool:
    """Let the frames of a burst wait for a guest's kernel instead of dropping them.

    The driver has no option for it (Documentation/virt/uml), so its socket is borrowed.

    Returns:
        False while the guest has not opened its end of the cable, and when it is gone.

    Raises:
        ClusterError: this process may not borrow it, or the host's kernel cannot.
    """
    try:
        held = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        lengthened = [_lengthened(borrowed) for borrowed in _sockets(process.pid, held)]
        return any(lengthened)
    except (ProcessLookupError, FileNotFoundError):  # it ended meanwhile
        return False
    except OSError as error:
        raise ClusterError(
            f"The queue of a guest's network cable cannot be lengthened: {error}: run as root on "
            "Linux 5.6 or later, or leave the guest node out (--without-guest)."
        ) from error
    finally:
        os.close(held)


def _sockets(pid: int, held: int) -> Iterator[socket.socket]:
    libc = ctypes.CDLL(None, use_errno=True)
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not str(handle.readlink()).startswith("socket:"):
                continue
        except FileNotFoundError:  # closed meanwhile
            continue
        number = libc.syscall(_PIDFD_GETFD, held, int(handle.name), 0)
        if number < 0 and ctypes.get_errno() == errno.EBADF:  # closed meanwhile
            continue
        if number < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        yield socket.socket(fileno=number)


def _lengthened(borrowed: socket.socket) -> bool:
    with borrowed:
        # It reads from the one of ETH_P_ALL; the other, of ETH_P_IP, it only sends with.
        if borrowed.family != socket.AF_PACKET or borrowed.getsockname()[1] != ETH_P_ALL:
            return False
        big_buffer(borrowed, QUEUE_BYTES)
        return True
