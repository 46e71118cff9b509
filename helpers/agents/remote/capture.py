"""Frames that interfaces see."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.sockets import big_buffer

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS = 6
SO_ATTACH_FILTER = 26
AT_ONCE = 256  # frames of one interface, before the others are looked at
DRAINED_WITHIN = 10.0  # seconds
PACKET_TYPES = {0: "host", 1: "broadcast", 2: "multicast", 3: "otherhost", 4: "outgoing"}


def only_shorter(sock: socket.socket, longest: int) -> None:
    """Have the kernel leave out frames of more bytes, before they take room in the buffer.

    Classic BPF (Documentation/networking/filter.rst): ld len; jgt longest; ret 0; ret all.
    """
    program = [(0x80, 0, 0, 0), (0x25, 0, 1, longest), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


class Capture:
    """Frames of some interfaces that contain one of some byte strings (all, when none given)."""

    def __init__(self, args: Json) -> None:
        self.match = [bytes.fromhex(text) for text in args.get("match") or []]
        self.snap = int(args.get("snap", 512))
        self.limit = int(args.get("limit", 20_000))
        self.frames: list[Json] = []
        self.seen = self.drops = 0
        self.changed = threading.Condition()
        self.closed = 0.0  # when, by the monotonic clock
        self.sockets: list[socket.socket] = []
        self.epoll = select.epoll()
        interfaces = args.get("interfaces") or [name for _, name in socket.if_nameindex()]
        try:
            for interface in interfaces:
                # Protocol 0 until bound, or frames of all interfaces come in between.
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
                self.sockets.append(sock)
                big_buffer(sock)
                if args.get("longest"):
                    only_shorter(sock, int(args["longest"]))
                sock.bind((interface, ETH_P_ALL))
                self.epoll.register(sock.fileno(), select.EPOLLIN)
        except OSError:
            self.close()
            raise
        self.by_fd = {sock.fileno(): sock for sock in self.sockets}
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        """Read until closed, and then what waits: on a busy node the reader is seconds late."""
        while True:
            ready = self.epoll.poll(0.0 if self.closed else 0.2)
            if self.closed and (not ready or self._too_late()):
                return
            for fd, _ in ready:
                with contextlib.suppress(OSError):  # nothing more, or the interface is gone
                    for _ in range(AT_ONCE):
                        self._take(*self.by_fd[fd].recvfrom(65_535))

    def _too_late(self) -> bool:
        """Whether reading what waited took too long; the unread are at least one drop then."""
        late = time.monotonic() - self.closed > DRAINED_WITHIN
        self.drops += late
        return late

    def _take(self, frame: bytes, address: tuple[Any, ...]) -> None:
        self.seen += 1
        if self.match and not any(part in frame for part in self.match):
            return
        with self.changed:
            if len(self.frames) < self.limit:
                self.frames.append(
                    {
                        "frame": frame[: self.snap].hex(),
                        "length": len(frame),
                        "interface": address[0],
                        "direction": PACKET_TYPES.get(address[2], str(address[2])),
                        "at": time.time(),
                    }
                )
            else:
                self.drops += 1
            self.changed.notify_all()

    def report(self) -> Json:
        return {"seen": self.seen, "kept": len(self.frames), "drops": self.drops}

    def close(self) -> None:
        self.closed = time.monotonic()
        if hasattr(self, "thread"):
            self.thread.join(DRAINED_WITHIN + 2)
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                statistics = sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
                self.drops += struct.unpack("=II", statistics)[1]
            sock.close()
        self.epoll.close()


def op_capture_start(call: Call) -> None:
    """{interfaces, match: [hex], longest, snap, limit} -> {handle}; nothing is missed from now."""
    call.emit(0, {"handle": call.keep(Capture(call.args))})


def op_capture_stop(call: Call) -> None:
    """Wait at most ``wait`` seconds for ``expect`` frames, stop, and return them.

    The last result is {seen, kept, drops}: with drops, an absent frame proves nothing.
    """
    capture = call.release(call.args["handle"])
    expect, wait = int(call.args.get("expect", 0)), float(call.args.get("wait", 0.0))
    with capture.changed:
        capture.changed.wait_for(lambda: len(capture.frames) >= expect, min(wait, call.left))
    time.sleep(float(call.args.get("settle", 0.05)))
    capture.close()
    for index, frame in enumerate(capture.frames):
        call.emit(index, frame)
    call.emit(len(capture.frames), capture.report())
