"""Continuous flows: a process of their own that outlives the session that started it.

An upgrade restarts what sessions lead through (API server, kubelet, proxies between). So
``flows_start`` starts this program anew as ``flows``; it listens on an abstract UNIX socket of its
network namespace, and any later session asks it by its token. It ends when it is told to, or
when nobody has asked for ``lease`` seconds.

One thread, one loop: every flow has a time at which it is due next, and sockets that wake it.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.monitors import MONITORS
from helpers.agents.remote.stream import Stream
from helpers.agents.remote.stream_kinds import KINDS
from helpers.agents.remote.stream_udp import Receiver

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json

READY_SECONDS = 20.0  # for a Python start on a slow node
LINE_LIMIT = 64 << 20
POLL_SECONDS = 0.1
HELD_UP = 0.05  # seconds of one turn of the loop beyond its wait
EVENTS = 1024  # of one poll: more sockets than one process of flows ever has


def address(token: str) -> str:
    """Name of the socket: abstract, so it needs no file system and goes with its process."""
    return f"\0dsc-flows-{token}"


class Loop:
    """All flows, receivers and monitors of one process."""

    def __init__(self, spec: Json) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.due: list[tuple[float, int, Stream]] = []
        self.serial = itertools.count()
        self.lease = float(spec["lease"])
        self.asked = time.monotonic()
        self.polled = time.monotonic()
        self.looked = 0.0  # everything that had arrived by then has been taken
        self.ended = False
        self.receivers = [Receiver(self, item) for item in spec.get("receivers") or []]
        self.monitors = [MONITORS[item["kind"]](self, item) for item in spec.get("monitors") or []]
        self.streams: list[Stream] = []
        self.add(spec.get("flows") or [])

    def add(self, specs: list[Json]) -> None:
        """Start flows, spread over their interval: they must not all be due at once."""
        now = time.monotonic()
        for number, item in enumerate(specs):
            stream: Stream = KINDS[item["kind"]](self, item)
            self.streams.append(stream)
            first = now + stream.interval * number / max(len(specs), 1)
            self.plan(first, stream)

    def plan(self, at: float, stream: Any) -> None:
        """Have ``stream.turn`` called at a time."""
        heapq.heappush(self.due, (at, next(self.serial), stream))

    def watch(self, sock: Any, handler: Callable[[int], None], events: int) -> None:
        self.handlers[sock.fileno()] = handler
        self.epoll.register(sock.fileno(), events)

    def forget(self, sock: Any) -> None:
        """Before a socket is closed; its number may be given out again at once."""
        if self.handlers.pop(sock.fileno(), None) is not None:
            self.epoll.unregister(sock.fileno())

    def run(self) -> None:
        try:
            self._run()
        finally:
            for monitor in self.monitors:
                monitor.close()

    def _run(self) -> None:
        while not self.ended and time.monotonic() - self.asked < self.lease:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                self._turn(*self.due[0])
                now = time.monotonic()
            pause = self.due[0][0] - now if self.due else POLL_SECONDS
            timeout = max(0.0, min(pause, POLL_SECONDS))
            ready = self.epoll.poll(timeout, EVENTS)
            before, self.polled = self.polled, time.monotonic()
            # Held up for longer than it meant to wait: what is here now may have come at any time.
            held_up = self.polled - before > timeout + HELD_UP
            self.looked = before if held_up else self.polled
            if held_up:  # a wait that a signal cut short took nothing
                ready += self.epoll.poll(0.0, EVENTS)
            for fd, events in ready:
                handler = self.handlers.get(fd)  # one before it may have closed it
                if handler is not None:
                    handler(events)

    def _turn(self, at: float, _: int, stream: Any) -> None:
        heapq.heappop(self.due)
        interval = stream.turn(time.monotonic())
        if interval is not None:
            # Turns that were missed are left out: a burst would be another flow than was asked.
            self.plan(max(at + interval, time.monotonic()), stream)

    # -- what is asked --------------------------------------------------------------------------

    def answer(self, request: Json) -> Json:
        self.asked = time.monotonic()
        what = request["ask"]
        if what == "flows":
            self.add(request["flows"])
        elif what == "halt":
            for stream in self.streams:
                stream.halt(time.monotonic())
        elif what == "received":
            return {"received": [receiver.report() for receiver in self.receivers]}
        elif what == "report":
            return self._report(request)
        elif what == "end":
            self.ended = True
        else:
            raise ValueError(f"nobody knows how to {what!r}")
        return {}

    def _report(self, request: Json) -> Json:
        """``delivered``: flow id -> what receivers saw of it; ``final``: nothing will come."""
        delivered, now = request.get("delivered") or {}, time.monotonic()
        for stream in self.streams:
            for bits in delivered.get(stream.id, []):
                stream.ledger.settle(bits)
        final = bool(request.get("final"))
        return {
            "flows": {s.id: s.report(now, final=final) for s in self.streams},
            "events": [event for monitor in self.monitors for event in monitor.report()],
        }


class Control:
    """The listening end of the control socket."""

    def __init__(self, loop: Loop, token: str) -> None:
        self.loop = loop
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(address(token))
        self.sock.listen(8)
        loop.watch(self.sock, self._accept, select.EPOLLIN)

    def _accept(self, _: int) -> None:
        sock, _peer = self.sock.accept()
        with sock:
            # Whoever asks is on this host and asks at once: no need for a state machine.
            sock.settimeout(5.0)
            try:
                line = sock.makefile("rb").readline(LINE_LIMIT)
                answer: Json = self.loop.answer(json.loads(line))
            except Exception as error:  # an answer, whatever it is: the flows go on
                answer = {"error": f"{type(error).__name__}: {error}"}
            try:
                sock.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                return  # it asks again


def main() -> None:
    """``flows``: one line with the flows in, one line with the ports out, then nobody's child."""
    spec = json.loads(sys.stdin.buffer.readline())
    try:
        loop = Loop(spec)
        Control(loop, spec["token"])
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        return
    print(json.dumps({"pid": os.getpid(), "ports": [r.port for r in loop.receivers]}), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    loop.run()


# -- operations -----------------------------------------------------------------------------------


def op_flows_start(call: Call) -> None:
    """Start flows that outlive this session: {lease, flows, receivers, monitors} -> {token, ports}.

    ``ports`` are those of ``receivers``, in their order. Raises when one of them cannot begin.
    """
    token = base64.b16encode(os.urandom(8)).decode().lower()
    argv = [sys.executable, sys.argv[0], "flows"]
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        child.stdin.write(json.dumps({**call.args, "token": token}).encode() + b"\n")
        child.stdin.flush()
        ready, _, _ = select.select([child.stdout], [], [], min(READY_SECONDS, call.left))
        line = child.stdout.readline() if ready else b""
    answer = json.loads(line) if line else {"error": "it did not begin in time"}
    if "error" in answer:
        child.kill()
        child.wait()
        raise RuntimeError(f"flows: {answer['error']}")
    call.emit(0, {"token": token, **answer})


def op_flows_ask(call: Call) -> None:
    """Ask the flows of ``token`` for ``request``; raises when they are gone."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(call.left)
        sock.connect(address(call.args["token"]))
        sock.sendall(json.dumps(call.args["request"]).encode() + b"\n")
        answer = json.loads(sock.makefile("rb").readline(LINE_LIMIT))
    if "error" in answer:
        raise RuntimeError(f"flows: {answer['error']}")
    call.emit(0, answer)


def op_clock(call: Call) -> None:
    """The clock of flows, now: {monotonic}."""
    call.emit(0, {"monotonic": time.monotonic()})
