"""The kinds of continuous flows."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.dns import RECORDS, dns_parse, dns_query
from helpers.agents.remote.flows import Flow, TcpFlow
from helpers.agents.remote.outcomes import error_text
from helpers.agents.remote.ping import PingFlow
from helpers.agents.remote.probe import close_at_once
from helpers.agents.remote.sockets import (
    CHUNK,
    FAMILIES,
    sockaddr,
)
from helpers.agents.remote.stream import Stream
from helpers.agents.remote.stream_udp import Datagrams

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Json
    from helpers.agents.remote.streams import Loop

MESSAGE = struct.Struct("!Q")  # number of a message in an established connection
LAST_WORD = 5.0  # seconds for the answer to what an idle connection says at its end


class Attempts(Stream):
    """Things that each succeed or fail alone, on a socket of their own."""

    flow: type[Flow]

    def __init__(self, loop: Loop, spec: Json) -> None:
        super().__init__(loop, spec)
        self.running: deque[tuple[int, Flow]] = deque()  # oldest first; finished ones too

    def send(self, now: float) -> None:
        self._expire()
        number = self.ledger.send(now)
        flow = self.flow(number, {**self.spec, "timeout": self.patience})
        flow.start()
        if flow.sock is not None and flow.result is None:
            self.running.append((number, flow))
            events = flow.interest | select.EPOLLET
            self.loop.watch(flow.sock, lambda e: self._event(number, flow, e), events)
        else:
            self._finish(number, flow)

    def _event(self, number: int, flow: Flow, events: int) -> None:
        if flow.until <= self.loop.looked:
            flow.expire()  # it was not there when it was looked for after its time
        else:
            flow.on_event(events)
        if flow.result is not None:
            self._finish(number, flow)

    def _expire(self) -> None:
        """Give up what was not answered in time: by when answers were last taken, not by now.

        A process that was held up finds answers that had come long before it looked.
        """
        looked = self.loop.looked
        while self.running and (self.running[0][1].result or self.running[0][1].until <= looked):
            number, flow = self.running.popleft()
            if flow.result is None:
                flow.expire()
                self._finish(number, flow)

    def _finish(self, number: int, flow: Flow) -> None:
        if flow.sock is not None:
            self.loop.forget(flow.sock)
            close_at_once(flow.sock)
        result: Json = flow.result or {}
        if result.get("outcome") == "reached":
            self.ledger.deliver(number, time.monotonic())
            if "server" in result:
                server = str(result["server"])
                self.servers[server] = self.servers.get(server, 0) + 1
            return
        self.own_errors += result.get("outcome") == "inconclusive"
        self.ledger.fail(number, str(result.get("error")))

    def report(self, now: float, *, final: bool) -> Json:
        self._expire()
        return super().report(now, final=final)


class Echoes(Attempts):
    """ICMP echoes, each with an identifier of its own."""

    flow = PingFlow


class Connections(Attempts):
    """New TCP connections, each with a request and its echo."""

    flow = TcpFlow


class DnsFlow(Flow):
    """One question over UDP, from a port of its own; it must be answered with a record."""

    kind = socket.SOCK_DGRAM

    def connected(self) -> None:
        assert self.sock is not None
        self.stage = "after sending"
        ident = int.from_bytes(os.urandom(2), "big")
        self.question = dns_query(self.spec["name"], self.spec["record"], ident)
        self.sock.send(self.question)

    def readable(self) -> None:
        assert self.sock is not None
        data = self.sock.recv(65_535)
        if data[:2] != self.question[:2]:
            return  # an answer to another question: ours may still come
        try:
            answer = dns_parse(data)
        except (ValueError, IndexError, struct.error) as error:
            self.finish("wrong_peer", error=f"not a DNS answer: {error}")
            return
        wanted = RECORDS[self.spec["record"]]
        if any(record["type"] == wanted for record in answer["answers"]):
            self.finish("reached")
        else:
            self.finish("wrong_peer", error=f"{answer['rcode']} without the record")


class Questions(Attempts):
    """DNS lookups."""

    flow = DnsFlow


class Connection(Stream):
    """An established TCP connection with numbered messages that come back.

    With ``idle`` it says something once at its beginning, and once when it is halted: whoever
    forgot the connection in between shows then. A connection that ends is counted, and opened
    anew: what follows is still measured.
    """

    def __init__(self, loop: Loop, spec: Json) -> None:
        super().__init__(loop, spec)
        self.idle = bool(spec.get("idle"))
        self.sock: socket.socket | None = None
        self.unanswered: deque[int] = deque()
        self._forget()

    def _forget(self) -> None:
        self.out = b""
        self.received = bytearray()
        self.greeted = self.up = False
        self.opened = time.monotonic()

    def turn(self, now: float) -> float | None:
        if self.sock is not None and not self.greeted and now - self.opened > LAST_WORD:
            self._broken("ETIMEDOUT (no answer) on connect", reset=False)
        if self.halted:
            return self.interval if self.unanswered else None
        if not self.idle or not self.ledger.sent or self.sock is None:
            self.send(now)
        return self.interval

    def halt(self, now: float) -> None:
        if self.idle and not self.halted:
            self.send(now)
        super().halt(now)

    def send(self, now: float) -> None:
        number = self.ledger.send(now)
        if self.sock is None and not self._open(number):
            return
        self.unanswered.append(number)
        self.out += MESSAGE.pack(number)
        if self.up:
            self._guarded(self._flush)

    def _open(self, number: int) -> bool:
        self._forget()
        sock = socket.socket(FAMILIES[self.version], socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                sock.connect(sockaddr(self.target, self.port))
        except OSError as error:
            sock.close()
            self.failed(number, error, "on connect")
            return False
        self.sock, self.out = sock, b'{"mode":"echo"}\n'
        self.loop.watch(sock, self._event, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        return True

    def _event(self, events: int) -> None:
        self._guarded(lambda: self._progress(events))

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except (BlockingIOError, InterruptedError):
            pass
        except (ValueError, KeyError, TypeError) as error:
            self._broken(f"answered by something else: {error}", reset=False)
        except OSError as error:
            stage = "after connect" if self.greeted else "on connect"
            text = error_text(error.errno, stage) if error.errno else str(error)
            self._broken(text, reset=self.greeted)

    def _progress(self, events: int) -> None:
        assert self.sock is not None
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        if events & select.EPOLLOUT:
            self.up = True
            self._flush()
        if events & (select.EPOLLIN | select.EPOLLHUP):
            while True:
                data = self.sock.recv(CHUNK)
                if not data:
                    raise ConnectionError("closed by the peer")
                self._take(data)

    def _flush(self) -> None:
        assert self.sock is not None
        while self.out:
            self.out = self.out[self.sock.send(self.out) :]

    def _take(self, data: bytes) -> None:
        self.received += data
        if not self.greeted:
            line, newline, rest = bytes(self.received).partition(b"\n")
            if not newline:
                return
            self.greeted, self.received = True, bytearray(rest)
            server = str(json.loads(line)["server"])
            self.servers[server] = self.servers.get(server, 0) + 1
        now = time.monotonic()
        while len(self.received) >= MESSAGE.size:
            (number,) = MESSAGE.unpack_from(self.received)
            del self.received[: MESSAGE.size]
            if not self.unanswered or self.unanswered[0] != number:
                raise ConnectionError(f"message {number} came back out of turn")
            self.unanswered.popleft()
            self.ledger.deliver(number, now)

    def _broken(self, why: str, *, reset: bool) -> None:
        assert self.sock is not None
        self.loop.forget(self.sock)
        self.sock.close()
        self.sock = None
        if reset:
            self.reset(why)
        while self.unanswered:
            self.ledger.fail(self.unanswered.popleft(), why)


KINDS = {
    "udp": Datagrams,
    "icmp": Echoes,
    "connect": Connections,
    "dns": Questions,
    "tcp": Connection,
}
