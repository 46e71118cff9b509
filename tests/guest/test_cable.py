"""The queue of a guest's cable: another process's packet socket gets room."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from clusters.guest import cable
from clusters.processes import Identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="packet sockets need root")

OPENS = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.bind(("lo", int(sys.argv[1])))
print("open", flush=True)
for line in sys.stdin:
    print(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), flush=True)
"""


def lengthened(protocol: int) -> tuple[bool, int]:
    """Whether a process's packet socket was lengthened, and how many bytes it has then."""
    argv = [sys.executable, "-c", OPENS, str(protocol)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        process = Identity.of(child.pid)
        assert process is not None
        done = cable.lengthen_queue(process)
        child.stdin.write("?\n")
        child.stdin.close()
        return done, int(child.stdout.readline())


def test_what_a_guest_reads_from_gets_room() -> None:
    done, room = lengthened(0x0003)
    assert done
    assert room >= cable.QUEUE_BYTES


def test_what_it_only_sends_with_keeps_its_size() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as usual:
        size = usual.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert lengthened(0x0800) == (False, size)


def test_a_guest_that_is_gone_has_no_cable() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = Identity.of(child.pid)
        child.kill()
    assert process is not None
    assert not cable.lengthen_queue(process)
