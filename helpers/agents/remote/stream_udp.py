"""One-way datagrams: the flow that sends them, and what sees them arrive."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from helpers.agents.remote.ledger import Bitmap
from helpers.agents.remote.sockets import ANYWHERE, FAMILIES, big_buffer, sockaddr
from helpers.agents.remote.stream import Stream

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Json
    from helpers.agents.remote.streams import Loop

DATAGRAM = struct.Struct("!8sQd")  # nonce of the flow, number, sender's clock
SIZE = 64  # bytes of a datagram


class Datagrams(Stream):
    """Numbered datagrams in one direction; the receivers know what arrived."""

    def __init__(self, loop: Loop, spec: Json) -> None:
        super().__init__(loop, spec)
        self.nonce = bytes.fromhex(spec["nonce"])
        # Not connected: an ICMP error would otherwise refuse the next datagram, unsent.
        self.sock = socket.socket(FAMILIES[self.version], socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(sockaddr(ANYWHERE[self.version], 0))
        self.address = sockaddr(self.target, self.port)

    def send(self, now: float) -> None:
        number = self.ledger.send(now)
        data = DATAGRAM.pack(self.nonce, number, now).ljust(SIZE, b".")
        try:
            self.sock.sendto(data, self.address)
        except OSError as error:
            self.failed(number, error, "on sending")


class Receiver:
    """Sees datagrams of any flow: {version, port}."""

    def __init__(self, loop: Loop, spec: Json) -> None:
        version = int(spec["version"])
        self.sock = socket.socket(FAMILIES[version], socket.SOCK_DGRAM)
        if version == 6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # No SO_REUSEADDR: another socket on the same port would get what is meant for this one.
        self.sock.bind(sockaddr(ANYWHERE[version], int(spec.get("port") or 0)))
        self.sock.setblocking(False)
        big_buffer(self.sock, 4 << 20)
        self.port = int(self.sock.getsockname()[1])
        self.seen: dict[bytes, Json] = {}
        loop.watch(self.sock, self._readable, select.EPOLLIN)

    def _readable(self, _: int) -> None:
        with contextlib.suppress(OSError):
            for _ in range(256):
                data, peer = self.sock.recvfrom(2048)
                if len(data) >= DATAGRAM.size:
                    self._take(data, peer[0], time.monotonic())

    def _take(self, data: bytes, source: str, now: float) -> None:
        nonce, number, sent = DATAGRAM.unpack_from(data)
        if number > 1 << 32:
            return  # nobody's: a flow would take years to come so far
        transit = now - sent  # of two clocks: only differences mean something
        flow = self.seen.get(nonce)
        if flow is None:
            flow = {"map": Bitmap(), "least": transit, "most": transit, "sources": {}}
            self.seen[nonce] = flow
        flow["map"].add(number)
        flow["least"] = min(flow["least"], transit)
        flow["most"] = max(flow["most"], transit)
        if source in flow["sources"] or len(flow["sources"]) < 32:
            flow["sources"][source] = flow["sources"].get(source, 0) + 1
        flow["last"] = now

    def report(self) -> Json:
        return {
            nonce.hex(): {
                "bits": flow["map"].text(),
                "count": flow["map"].count,
                "duplicates": flow["map"].duplicates,
                "reordered": flow["map"].reordered,
                "spread": flow["most"] - flow["least"],
                "sources": flow["sources"],
                "last": flow["last"],
            }
            for nonce, flow in self.seen.items()
        }
