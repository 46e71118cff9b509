"""One probe each: a non-blocking socket that speaks a protocol and judges the answer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.outcomes import classify, error_text
from helpers.agents.remote.sockets import (
    ANYWHERE,
    CHUNK,
    FAMILIES,
    IPPROTO_SCTP,
    MAX_HEADER,
    dont_fragment,
    pattern,
    set_hops,
    sockaddr,
    version_of,
)

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Json


class Flow:
    """One probe: a non-blocking socket and what happened to it. Subclasses speak a protocol."""

    kind = socket.SOCK_STREAM
    proto = 0
    interest = select.EPOLLIN | select.EPOLLOUT

    def __init__(self, index: int, spec: Json) -> None:
        self.index, self.spec = index, spec
        self.target: str = spec["target"]
        self.port = int(spec.get("port") or 0)
        self.size = int(spec.get("size", 32))
        self.version = version_of(self.target)
        self.timeout = float(spec.get("timeout", 2.0))
        self.result: Json | None = None
        self.stage = "on connect"
        self.received = b""
        self.began = time.monotonic()
        self.until = self.began + self.timeout
        self.sock: socket.socket | None = None

    def open(self) -> socket.socket:
        return socket.socket(FAMILIES[self.version], self.kind | socket.SOCK_NONBLOCK, self.proto)

    def start(self) -> None:
        try:
            self.sock = sock = self.open()
            set_hops(sock, self.version, self.spec.get("hops"))
            if self.spec.get("dont_fragment"):
                dont_fragment(sock, self.version)
            self._bind(sock)
        except OSError as error:
            # Nothing left this host: says nothing of the network.
            text = error_text(error.errno or 0, "before sending")
            self.finish("inconclusive", error=text)
            return
        number = sock.connect_ex(sockaddr(self.target, self.port))
        if number not in (0, errno.EINPROGRESS):
            self.fail(number)

    def _bind(self, sock: socket.socket) -> None:
        source, port = self.spec.get("source"), self.spec.get("source_port")
        if source or port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(sockaddr(source or ANYWHERE[self.version], port or 0))

    def on_event(self, events: int) -> None:
        assert self.sock is not None
        try:
            if events & select.EPOLLERR or self.stage == "on connect":
                number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    self.fail(number)
                    return
            if events & select.EPOLLOUT and self.stage == "on connect":
                self.stage = "after connect"
                self.connected()
            if events & (select.EPOLLIN | select.EPOLLHUP) and self.result is None:
                self.readable()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.fail(error.errno or 0)

    def connected(self) -> None:
        raise NotImplementedError

    def readable(self) -> None:
        raise NotImplementedError

    def fail(self, number: int) -> None:
        self.finish(classify(number, self.target), error=error_text(number, self.stage))

    def expire(self) -> None:
        self.finish("timeout", error=f"nothing for {self.timeout:g} s {self.stage}")

    def finish(self, outcome: str, **fields: Any) -> None:
        if self.result is None:
            spent = round((time.monotonic() - self.began) * 1000, 3)
            self.result = {"outcome": outcome, "ms": spent, **fields}

    def answered(self, header: bytes, payload: bytes) -> None:
        """Judge an echo server's answer."""
        try:
            answer = json.loads(header)
            fields = {key: answer[key] for key in ("server", "node", "peer", "peer_port", "local")}
        except (ValueError, KeyError, TypeError):
            seen = header[:60].decode("utf-8", "replace")
            self.finish("wrong_peer", error=f"answered by something else: {seen!r}")
            return
        if payload != self.payload:
            text = f"payload of {self.size} bytes came back as other {len(payload)} bytes"
            self.finish("wrong_peer", error=text, **fields)
            return
        self.finish("reached", **fields)

    @property
    def payload(self) -> bytes:
        return pattern(self.size)


class TcpFlow(Flow):
    """Connect, send a request line and payload, read the answer line and the echo."""

    def start(self) -> None:
        super().start()
        self.unsent = b'{"mode":"echo"}\n' + self.payload

    def connected(self) -> None:
        if self.spec.get("connect_only"):
            self.finish("reached")
            return
        self.flush()

    def flush(self) -> None:
        assert self.sock is not None
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]

    def on_event(self, events: int) -> None:
        if events & select.EPOLLOUT and self.stage != "on connect" and self.unsent:
            with contextlib.suppress(OSError):
                self.flush()
        super().on_event(events)

    def readable(self) -> None:
        assert self.sock is not None
        data = self.sock.recv(CHUNK)
        self.received += data
        header, newline, payload = self.received.partition(b"\n")
        if newline and header[:1] == b"{" and len(payload) < self.size and data:
            return
        if newline or len(self.received) > MAX_HEADER:
            self.answered(header, payload)
        elif not data:
            self.finish("refused", error="closed by the peer before it answered")


class SctpFlow(TcpFlow):
    proto = IPPROTO_SCTP


class UdpFlow(Flow):
    """One datagram, one answer. Sent once: a retry would hide loss."""

    kind = socket.SOCK_DGRAM

    def connected(self) -> None:
        assert self.sock is not None
        self.stage = "after sending"
        self.nonce = os.urandom(8).hex()
        self.sock.send(json.dumps({"nonce": self.nonce}).encode() + b"\n" + self.payload)

    def readable(self) -> None:
        assert self.sock is not None
        header, _, payload = self.sock.recv(65_535).partition(b"\n")
        self.answered(header, payload)
