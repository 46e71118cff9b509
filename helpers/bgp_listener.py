"""Runs on the outside host: a BGP speaker that announces nothing and tells what it was told.

Usage: python3 -c SCRIPT AS ROUTER-ID SECONDS PEERS. It answers connections on TCP 179 of both
families until so many peers have sent all they have (the End-of-RIB marker of RFC 4724), or the
time is over, and prints {peer: {"prefixes": [...], "done": bool, "error": null or text}}.

Standard library only. Messages: RFC 4271; IPv6 routes: RFC 4760; capabilities: RFC 5492, 6793.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import sys
import threading
import time
from typing import Any

OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
MARKER = b"\xff" * 16
PORT = 179
HOLD = 90  # seconds
MP_REACH, MP_UNREACH = 14, 15
EXTENDED_LENGTH = 0x10
AFI = {1: 4, 2: 16}  # address family -> bytes of an address


def message(kind: int, body: bytes = b"") -> bytes:
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def open_message(own_as: int, router: str) -> bytes:
    """OPEN for IPv4 and IPv6 unicast and four-octet AS numbers, with graceful restart's marker."""
    capabilities = b"".join(
        [
            struct.pack("!BBHBB", 1, 4, 1, 0, 1),
            struct.pack("!BBHBB", 1, 4, 2, 0, 1),
            struct.pack("!BBI", 65, 4, own_as),
            struct.pack("!BBH", 64, 2, 0),  # End-of-RIB is sent to who understands it
        ]
    )
    parameters = struct.pack("!BB", 2, len(capabilities)) + capabilities
    two_octets = min(own_as, 23456)
    head = struct.pack("!BHH4sB", 4, two_octets, HOLD, socket.inet_aton(router), len(parameters))
    return message(OPEN, head + parameters)


def prefixes(data: bytes, size: int) -> list[str]:
    """Prefixes as they are packed: length in bits, then as many octets as that needs."""
    found = []
    at = 0
    while at < len(data):
        bits = data[at]
        octets = (bits + 7) // 8
        packed = data[at + 1 : at + 1 + octets].ljust(size, b"\0")
        found.append(str(ipaddress.ip_network((packed, bits), strict=False)))
        at += 1 + octets
    return found


class Peer:
    """What one peer has told so far."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.routes: set[str] = set()
        self.done = False
        self.error: str | None = None

    def update(self, body: bytes) -> None:
        (gone,) = struct.unpack("!H", body[:2])
        self.routes -= set(prefixes(body[2 : 2 + gone], 4))
        (length,) = struct.unpack("!H", body[2 + gone : 4 + gone])
        attributes = body[4 + gone : 4 + gone + length]
        came = body[4 + gone + length :]
        self.routes |= set(prefixes(came, 4))
        # RFC 4724: an UPDATE that says nothing, or withdraws nothing of one family, is the end.
        if not gone and not length and not came:
            self.done = True
        at = 0
        while at < len(attributes):
            flags, kind = attributes[at], attributes[at + 1]
            wide = bool(flags & EXTENDED_LENGTH)
            size = (
                struct.unpack("!H", attributes[at + 2 : at + 4])[0] if wide else attributes[at + 2]
            )
            at += 4 if wide else 3
            self.attribute(kind, attributes[at : at + size])
            at += size

    def attribute(self, kind: int, value: bytes) -> None:
        if kind == MP_REACH:
            afi, _, hop = struct.unpack("!HBB", value[:4])
            self.routes |= set(prefixes(value[5 + hop :], AFI[afi]))
        elif kind == MP_UNREACH:
            (afi,) = struct.unpack("!H", value[:2])
            self.routes -= set(prefixes(value[3:], AFI[afi]))
            self.done = self.done or len(value) == 3

    def told(self) -> dict[str, Any]:
        return {"prefixes": sorted(self.routes), "done": self.done, "error": self.error}


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("closed by the peer")
        data += more
    return data


def converse(sock: socket.socket, peer: Peer, hello: bytes) -> None:
    try:
        sock.settimeout(HOLD)
        sock.sendall(hello)
        while True:
            length, kind = struct.unpack("!HB", exactly(sock, 19)[16:])
            body = exactly(sock, length - 19)
            if kind == OPEN:
                sock.sendall(message(KEEPALIVE))
            elif kind == UPDATE:
                peer.update(body)
            elif kind == NOTIFICATION:
                raise ConnectionError(f"notification {body[0]}/{body[1]}")
            elif kind == KEEPALIVE:
                sock.sendall(message(KEEPALIVE))
    except (OSError, struct.error, IndexError, KeyError) as error:
        peer.error = peer.error or f"{type(error).__name__}: {error}"


def listen(version: int, hello: bytes, peers: dict[str, Peer]) -> None:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if version == 6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind(("0.0.0.0" if version == 4 else "::", PORT))  # noqa: S104
    server.listen(64)

    def accept() -> None:
        while True:
            sock, at = server.accept()
            peer = peers[at[0]] = Peer(at[0])
            threading.Thread(target=converse, args=(sock, peer, hello), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main(own_as: int, router: str, seconds: float, wanted: int) -> None:
    peers: dict[str, Peer] = {}
    hello = open_message(own_as, router)
    for version in (4, 6):
        listen(version, hello, peers)
    until = time.monotonic() + seconds
    while time.monotonic() < until and sum(p.done for p in list(peers.values())) < wanted:
        threading.Event().wait(0.2)
    threading.Event().wait(1.0)  # what comes behind the marker
    print(json.dumps({address: peer.told() for address, peer in list(peers.items())}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
