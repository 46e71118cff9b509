"""Bulk transfers and long-lived connections over TCP."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING

from helpers.agents.remote.outcomes import classify
from helpers.agents.remote.sockets import CHUNK, pattern

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


def read_line(sock: socket.socket) -> tuple[Json, bytes]:
    """The JSON line that a server sends first, and what came after it."""
    received = b""
    while b"\n" not in received:
        data = sock.recv(CHUNK)
        if not data:
            raise ConnectionError("closed by the peer before it answered")
        received += data
    line, _, rest = received.partition(b"\n")
    return json.loads(line), rest


def bulk(spec: Json) -> Json:
    """Move ``bytes`` up (sink) or down (source) and compare digests of both ends."""
    size, mode = int(spec["bytes"]), spec.get("mode", "sink")
    began = time.monotonic()
    digest, moved = hashlib.sha256(), 0
    try:
        with socket.create_connection((spec["target"], spec["port"]), spec["timeout"]) as sock:
            sock.sendall(json.dumps({"mode": mode, "bytes": size}).encode() + b"\n")
            answer, rest = read_line(sock)
            while moved < size:
                if mode == "sink":
                    rest = pattern(min(CHUNK, size - moved))
                    sock.sendall(rest)
                else:
                    rest = rest or sock.recv(CHUNK)
                    if not rest:
                        break
                digest.update(rest)
                moved += len(rest)
                rest = b""
            theirs = read_line(sock)[0]["sha256"] if mode == "sink" else pattern_digest(size)
    except OSError as error:
        outcome = classify(error.errno or errno.ETIMEDOUT, spec["target"])
        return {"outcome": outcome, "error": f"{error} after {moved} bytes", "bytes": moved}
    intact = theirs == digest.hexdigest()
    return {
        "outcome": "reached" if intact else "wrong_peer",
        "error": None if intact else f"sha256 differs over {moved} of {size} bytes",
        "bytes": moved,
        "sha256": theirs,
        "seconds": round(time.monotonic() - began, 4),
        **{key: answer[key] for key in ("server", "node", "peer", "local")},
    }


def pattern_digest(size: int) -> str:
    digest = hashlib.sha256()
    for start in range(0, size, CHUNK):
        digest.update(pattern(min(CHUNK, size - start)))
    return digest.hexdigest()


def op_tcp_bulk(call: Call) -> None:
    """``transfers``: list of {target, port, bytes, mode: sink|source, timeout}."""
    call.each(call.args["transfers"], bulk, threads=32)


class Hold:
    """A connection that stays open and echoes a numbered message every ``interval`` seconds."""

    def __init__(self, args: Json) -> None:
        self.interval = float(args.get("interval", 0.2))
        self.patience = float(args.get("timeout", 5.0))
        self.sent = self.echoed = 0
        self.longest = 0.0
        self.error: str | None = None
        self.stop = threading.Event()
        self.sock = socket.create_connection((args["target"], args["port"]), self.patience)
        try:
            self.sock.sendall(b'{"mode":"echo"}\n')
            self.answer, _ = read_line(self.sock)
        except BaseException:
            self.sock.close()
            raise
        self.last = time.monotonic()  # of the newest echo
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            while not self.stop.is_set():
                message = b"%016d" % self.sent
                self.sock.sendall(message)
                self.sent += 1
                received = b""
                while len(received) < len(message):
                    data = self.sock.recv(len(message) - len(received))
                    if not data:
                        raise ConnectionError("closed by the peer")
                    received += data
                if received != message:
                    raise ConnectionError(f"sent {message!r}, got {received!r}")
                self.echoed += 1
                self.longest = max(self.longest, time.monotonic() - self.last)
                self.last = time.monotonic()
                self.stop.wait(self.interval)
        except OSError as error:
            self.longest = max(self.longest, time.monotonic() - self.last)
            self.error = str(error)

    def report(self) -> Json:
        """What happened so far; a gap that is not over counts with its length until now."""
        now = time.monotonic() - self.last if self.error is None else 0.0
        return {
            "alive": self.error is None,
            "sent": self.sent,
            "echoed": self.echoed,
            "longest_gap": round(max(self.longest, now), 4),
            "error": self.error,
            **self.answer,
        }

    def close(self) -> None:
        self.stop.set()
        self.thread.join(self.patience)
        self.sock.close()


def op_connect_hold(call: Call) -> None:
    """Open a long-lived connection; ``report`` and ``close`` take its handle.

    A connection that cannot be opened is an outcome of the network, with no handle.
    """
    try:
        hold = Hold(call.args)
    except OSError as error:
        outcome = classify(error.errno or errno.ETIMEDOUT, call.args["target"])
        call.emit(0, {"handle": None, "outcome": outcome, "error": str(error)})
        return
    answer = {"handle": call.keep(hold), "outcome": "reached", "error": None, **hold.answer}
    call.emit(0, answer)
