"""The echo server of ``serve``, and extra listeners for a while."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.sockets import (
    ANYWHERE,
    CHUNK,
    IPPROTO_SCTP,
    MAX_HEADER,
    big_buffer,
    listening_socket,
    metadata,
    pattern,
    reply_from,
    want_metadata,
)

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


class EchoServer:
    """All listeners of a process on one epoll loop."""

    def __init__(self, name: str, node: str) -> None:
        self.identity = {"server": name, "node": node}
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.sockets: list[socket.socket] = []
        self.closed = False

    def add_tcp(self, version: int, port: int, address: str = "", proto: int = 0) -> int:
        sock = listening_socket(
            version, socket.SOCK_STREAM, port, address or ANYWHERE[version], proto
        )
        self._watch(sock, lambda _: self._accept(sock))
        return int(sock.getsockname()[1])

    def add_udp(self, version: int, port: int, address: str = "") -> int:
        sock = listening_socket(version, socket.SOCK_DGRAM, port, address or ANYWHERE[version])
        want_metadata(sock, version)
        big_buffer(sock, 4 << 20)
        self._watch(sock, lambda _: self._datagrams(sock, version))
        return int(sock.getsockname()[1])

    def _watch(self, sock: socket.socket, handler: Callable[[int], None]) -> None:
        self.sockets.append(sock)
        self.handlers[sock.fileno()] = handler
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def run(self) -> None:
        while not self.closed:
            for fd, events in self.epoll.poll(0.5):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(events)
        for sock in self.sockets:
            sock.close()
        self.epoll.close()

    def close(self) -> None:
        """Stop at the next turn of the loop; the listeners refuse from now on."""
        self.closed = True
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(64):
                sock, peer = listener.accept()
                Connection(self, sock, peer)

    def _datagrams(self, sock: socket.socket, version: int) -> None:
        with contextlib.suppress(OSError):
            for _ in range(64):
                data, ancillary, _, peer = sock.recvmsg(65_535, 256)
                _, local = metadata(ancillary)
                header, _, payload = data.partition(b"\n")
                if header[:1] != b"{":
                    continue
                answer = {**self.identity, "peer": peer[0], "peer_port": peer[1], "local": local}
                line = json.dumps(answer).encode() + b"\n"
                with contextlib.suppress(OSError):
                    sock.sendmsg([line, payload], reply_from(version, local), 0, peer)


class Connection:
    """One accepted TCP (or SCTP) connection."""

    def __init__(self, server: EchoServer, sock: socket.socket, peer: tuple[Any, ...]) -> None:
        self.server, self.sock, self.peer = server, sock, peer
        self.header = b""
        self.mode = ""
        self.out = bytearray()
        self.left = 0  # bytes still to be taken (sink) or given (source)
        self.digest = hashlib.sha256()
        self.ended = False  # close when everything is out
        self.interest = select.EPOLLIN
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = sock.fileno()
        server.handlers[self.fd] = self.on_event
        server.epoll.register(self.fd, self.interest)
        self.on_event(select.EPOLLIN)  # the request is often here already

    def close(self) -> None:
        self.server.handlers.pop(self.fd, None)
        with contextlib.suppress(OSError):
            self.server.epoll.unregister(self.fd)
        self.sock.close()

    def on_event(self, events: int) -> None:
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read()
            self._write()
        except (BlockingIOError, InterruptedError):
            self._adjust()
        except (OSError, ValueError):
            self.close()

    def _read(self) -> None:
        data = self.sock.recv(CHUNK)
        if not data:
            self.ended = True
            return
        if not self.mode:
            self.header += data
            line, newline, data = self.header.partition(b"\n")
            if not newline:
                if len(self.header) > MAX_HEADER:
                    raise ValueError("no request line")
                return
            self._greet(json.loads(line))
        if self.mode == "sink":
            self.digest.update(data)
            self.left -= len(data)
            if self.left <= 0:
                self._say({"sha256": self.digest.hexdigest()})
                self.ended = True
        elif self.mode == "echo":
            self.out += data

    def _greet(self, request: Json) -> None:
        self.mode = str(request.get("mode", "echo"))
        self.left = int(request.get("bytes", 0))
        local = self.sock.getsockname()
        self._say(
            {
                **self.server.identity,
                "peer": self.peer[0].split("%")[0],
                "peer_port": self.peer[1],
                "local": local[0].split("%")[0],
                "local_port": local[1],
            }
        )

    def _say(self, answer: Json) -> None:
        self.out += json.dumps(answer).encode() + b"\n"

    def _write(self) -> None:
        while True:
            if self.mode == "source" and len(self.out) < CHUNK and self.left > 0:
                block = pattern(min(self.left, CHUNK))
                self.left -= len(block)
                self.out += block
                self.ended = self.left <= 0
            if not self.out:
                break
            sent = self.sock.send(self.out)
            del self.out[:sent]
        if self.ended:
            self.close()
        else:
            self._adjust()

    def _adjust(self) -> None:
        # An echo that is not read piles up here: stop reading until it is out.
        reading = select.EPOLLIN if len(self.out) < 4 * CHUNK and not self.ended else 0
        interest = reading | (select.EPOLLOUT if self.out else 0)
        if interest != self.interest:
            self.interest = interest
            self.server.epoll.modify(self.fd, interest)


def op_listen(call: Call) -> None:
    """An extra echo listener of exactly one family: {version, protocol, port, address}."""
    args = call.args
    server = EchoServer(call.agent.name, call.agent.node)
    version, port = int(args["version"]), int(args.get("port", 0))
    address, protocol = args.get("address", ""), args.get("protocol", "tcp")
    if protocol == "udp":
        port = server.add_udp(version, port, address)
    else:
        proto = IPPROTO_SCTP if protocol == "sctp" else 0
        port = server.add_tcp(version, port, address, proto)
    threading.Thread(target=server.run, daemon=True).start()
    call.emit(0, {"handle": call.keep(server), "port": port})
