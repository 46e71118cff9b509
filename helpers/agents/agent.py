#!/usr/bin/env python3
"""The agent: what runs inside of pods, on nodes and on the outside host.

``agent.py serve`` answers probes (a pod's main process); ``agent.py run`` executes batches that
arrive as JSON lines on stdin and streams results as JSON lines to stdout.

One file, standard library only, Python 3.9: it is shipped as text into containers whose image may
be anybody's. That is why it is longer than the other modules and imports none of them. Whatever
needs no privilege works without: raw sockets, captures and sysctls say so when they are refused.

Modules that few operations need are imported there: every session starts this program anew.

Wire of ``run``, one JSON object per line:
  in   {"id": n, "op": name, "deadline": seconds, "args": {...}}
  out  {"hello": {...}} once, then {"id": n, "i": k, "result": {...}} and at last {"id": n,
       "done": count}, or {"id": n, "error": text, "traceback": text}
Wire of the echo server: the client sends a JSON line {"mode": echo|sink|source, "bytes": n} and
is told {"server", "node", "peer", "peer_port", "local", "local_port"} in a JSON line before
anything else happens. UDP: the same two lines, followed by the payload, in one datagram each.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import functools
import hashlib
import heapq
import itertools
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROTOCOL = 1
CHUNK = 262_144
MAX_HEADER = 4096
PARALLEL = 256  # flows in flight of one batch: below the usual limit of 1024 descriptors
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS = 6
IP_PKTINFO, IP_RECVTTL = 8, 12  # Python has no names for them on Linux
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
IPPROTO_SCTP = 132
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33  # needs CAP_NET_ADMIN, ignores net.core.rmem_max
PACKET_TYPES = {0: "host", 1: "broadcast", 2: "multicast", 3: "otherhost", 4: "outgoing"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ANYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # an echo server answers on every address

Json = dict[str, Any]


# -- addresses and sockets ------------------------------------------------------------------------


def version_of(target: str) -> int:
    """4 or 6; the target may carry a zone (fe80::1%eth0)."""
    return 6 if ":" in target else 4


def sockaddr(target: str, port: int) -> tuple[Any, ...]:
    """What connect() wants; a zone becomes the scope id, which Python otherwise drops."""
    if version_of(target) == 4:
        return (target, port)
    address, _, zone = target.partition("%")
    return (address, port, 0, socket.if_nametoindex(zone) if zone else 0)


def big_buffer(sock: socket.socket, size: int = 32 << 20) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def listening_socket(version: int, kind: int, port: int, address: str, proto: int = 0) -> Any:
    """A socket of exactly one family: an IPv6 one never takes v4-mapped peers."""
    sock = socket.socket(FAMILIES[version], kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr(address, port))
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def want_metadata(sock: socket.socket, version: int) -> None:
    """Ask for the hop limit and the local address of each datagram."""
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def metadata(ancillary: list[tuple[int, int, bytes]]) -> tuple[int | None, str | None]:
    """(hop limit, local address) of a datagram from its control messages."""
    hops: int | None = None
    local: str | None = None
    for level, kind, data in ancillary:
        if (level, kind) in (
            (socket.IPPROTO_IP, socket.IP_TTL),
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
        ):
            hops = struct.unpack("=i", data[:4])[0]
        elif (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            local = socket.inet_ntop(socket.AF_INET, data[8:12])
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            local = socket.inet_ntop(socket.AF_INET6, data[:16])
    return hops, local


def reply_from(version: int, local: str | None) -> list[tuple[int, int, bytes]]:
    """Control message that answers from the address that was asked.

    A wildcard socket would otherwise let routing choose, and a node has many addresses.
    """
    if local is None:
        return []
    if version == 4:
        packed = struct.pack("=i4s4s", 0, socket.inet_aton(local), b"\0" * 4)
        return [(socket.IPPROTO_IP, IP_PKTINFO, packed)]
    packed = socket.inet_pton(socket.AF_INET6, local) + struct.pack("=I", 0)
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed)]


def set_hops(sock: socket.socket, version: int, hops: int | None) -> None:
    if hops is None:
        return
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)


def dont_fragment(sock: socket.socket, version: int) -> None:
    # PROBE, not DO: the width that a path once had is remembered for ten minutes, and would refuse
    # what passes now.
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)


@functools.lru_cache(maxsize=1)
def pattern_block() -> bytes:
    return struct.pack(f"!{CHUNK // 4}I", *range(CHUNK // 4))


def pattern(size: int) -> bytes:
    """``size`` bytes that never repeat within a packet: reordering and truncation show."""
    block = pattern_block()
    return block[:size] if size <= CHUNK else (block * (size // CHUNK + 1))[:size]


# -- echo server ----------------------------------------------------------------------------------


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


# -- probes: many flows on one loop ---------------------------------------------------------------

UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EACCES,  # a "prohibit" route, or ICMP administratively prohibited
    errno.EPERM,  # dropped on its way out by this host's own packet filter
    errno.EPROTO,
    errno.EMSGSIZE,  # larger than the path, and fragmenting was forbidden
    errno.ENOPROTOOPT,  # ICMP protocol unreachable
}
REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}


def classify(number: int, target: str) -> str:
    """Outcome of a socket error; what is this host's own trouble is inconclusive."""
    if number in REFUSED:
        return "refused"
    if number in UNREACHABLE:
        return "unreachable"
    if number == errno.ETIMEDOUT:
        return "timeout"
    if number == errno.EADDRNOTAVAIL and not has_source(target):
        return "unreachable"
    return "inconclusive"


def has_source(target: str) -> bool:
    """Whether this host has a route and a source address for a target."""
    with socket.socket(FAMILIES[version_of(target)], socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(sockaddr(target, 9))
        except OSError:
            return False
    return True


def error_text(number: int, stage: str) -> str:
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)}) {stage}"


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


class PingFlow(Flow):
    """One ICMP or ICMPv6 echo, on an unprivileged ping socket where allowed, else a raw one."""

    def open(self) -> socket.socket:
        self.proto = socket.IPPROTO_ICMP if self.version == 4 else socket.IPPROTO_ICMPV6
        family = FAMILIES[self.version]
        self.tag = os.urandom(4)  # identifier and sequence number
        self.raw = False
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, self.proto)
        except PermissionError:
            self.raw = True
            sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.proto)
            only_echo(sock, self.version, self.tag)
        want_metadata(sock, self.version)
        return sock

    def _bind(self, sock: socket.socket) -> None:
        if self.spec.get("source"):
            sock.bind(sockaddr(self.spec["source"], 0))

    def connected(self) -> None:
        assert self.sock is not None
        self.stage = "after sending"
        # Random bytes, as many as fit, tell this echo from all others; tags may collide.
        self.nonce = os.urandom(16)[: max(self.size, 4)]
        data = (self.nonce + self.payload)[: max(self.size, 4)]
        kind = 8 if self.version == 4 else 128
        message = struct.pack("!BBH4s", kind, 0, 0, self.tag)
        if self.version == 4:
            total = checksum(message + data)
            message = message[:2] + struct.pack("!H", total) + message[4:]
        self.sent = data
        self.sock.send(message + data)

    def readable(self) -> None:
        assert self.sock is not None
        while True:
            data, ancillary, _, peer = self.sock.recvmsg(65_535, 256)
            if self.raw and self.version == 4:
                data = data[(data[0] & 0x0F) * 4 :]
            if data[:1] not in (b"\x00", b"\x81") or self.nonce not in data[8:]:
                continue  # somebody else's: raw sockets see all
            hops, local = metadata(ancillary)
            if data[8:] != self.sent:
                text = f"{len(self.sent)} bytes came back as other {len(data) - 8} bytes"
                self.finish("wrong_peer", error=text)
            else:
                self.finish("reached", replied_from=peer[0], local=local, hops=hops)
            return


def only_echo(sock: socket.socket, version: int, tag: bytes) -> None:
    """Let a raw socket receive nothing but echoes with this identifier and sequence number.

    Every raw socket sees every ICMP packet of the host: with hundreds of pings in flight the
    buffers overflow and answers look lost. The filter is classic BPF (linux/filter.h).
    """
    import ctypes

    (wanted,) = struct.unpack("!I", tag)
    load = (
        # x = length of the IPv4 header; a = 32 bits at x + 4
        [(0xB1, 0, 0, 0), (0x40, 0, 0, 4)]
        if version == 4
        else [(0x20, 0, 0, 4)]  # IPv6 raw sockets begin at the ICMPv6 header
    )
    program = [*load, (0x15, 0, 1, wanted), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    filter_of = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_of)


def checksum(data: bytes) -> int:
    """Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


FLOWS = {"tcp": TcpFlow, "udp": UdpFlow, "icmp": PingFlow, "sctp": SctpFlow}


def close_at_once(sock: socket.socket) -> None:
    """Close without TIME_WAIT: thousands of probes a second would use up the source ports."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def op_probe(call: Call) -> None:
    """``probes``: list of {protocol, target, port, size, timeout, ...}; one result for each."""
    waiting = collections.deque(enumerate(call.args["probes"]))
    parallel = int(call.args.get("parallel", PARALLEL))
    active: dict[int, Flow] = {}
    due: list[tuple[float, int, Flow]] = []
    serial = itertools.count()
    epoll = select.epoll()
    try:
        while waiting or active:
            while waiting and len(active) < parallel:
                flow = _launch(epoll, waiting, call)
                if flow is not None and flow.sock is not None:
                    active[flow.sock.fileno()] = flow
                    heapq.heappush(due, (flow.until, next(serial), flow))
            pause = max(0.0, due[0][0] - time.monotonic()) if due else 0.0
            for fd, events in epoll.poll(min(pause, 0.5), 512):
                active[fd].on_event(events)
                _settle(epoll, active, fd, call)
            while due and (due[0][2].result or due[0][0] <= time.monotonic()):
                flow = heapq.heappop(due)[2]
                if flow.result is None and flow.sock is not None:
                    flow.expire()
                    _settle(epoll, active, flow.sock.fileno(), call)
            if call.expired:
                break  # what has no result is inconclusive on the other side
    finally:
        for flow in active.values():
            if flow.sock is not None:
                flow.sock.close()
        epoll.close()


def _launch(epoll: Any, waiting: collections.deque[tuple[int, Json]], call: Call) -> Flow | None:
    index, spec = waiting.popleft()
    flow: Flow = FLOWS[spec["protocol"]](index, spec)
    flow.start()
    if flow.result is not None or flow.sock is None:
        if flow.sock is not None:
            flow.sock.close()
        call.emit(index, flow.result or {})
        return None
    # Edge-triggered: a writable socket says so once, not at every turn.
    epoll.register(flow.sock.fileno(), flow.interest | select.EPOLLET)
    return flow


def _settle(epoll: Any, active: dict[int, Flow], fd: int, call: Call) -> None:
    flow = active[fd]
    if flow.result is None or flow.sock is None:
        return
    del active[fd]
    close_at_once(flow.sock)  # closing takes it out of the epoll set
    call.emit(flow.index, flow.result)


# -- bulk and long-lived TCP ----------------------------------------------------------------------


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


def op_report(call: Call) -> None:
    """State of what a handle stands for."""
    call.emit(0, call.kept(call.args["handle"]).report())


def op_close(call: Call) -> None:
    """Close what a handle stands for; its last report."""
    thing = call.release(call.args["handle"])
    report = thing.report() if hasattr(thing, "report") else {}
    thing.close()
    call.emit(0, report)


def op_listen(call: Call) -> None:
    """An extra echo listener of exactly one family: {version, protocol, port, address}."""
    args = call.args
    server = EchoServer(call.agent.name, call.agent.node)
    add = server.add_udp if args.get("protocol") == "udp" else server.add_tcp
    port = add(int(args["version"]), int(args.get("port", 0)), args.get("address", ""))
    threading.Thread(target=server.run, daemon=True).start()
    call.emit(0, {"handle": call.keep(server), "port": port})


# -- one-way UDP ----------------------------------------------------------------------------------


class Sightings:
    """A UDP socket that writes down every datagram that arrives."""

    def __init__(self, args: Json) -> None:
        version = int(args["version"])
        self.sock = listening_socket(
            version,
            socket.SOCK_DGRAM,
            int(args.get("port", 0)),
            args.get("address") or ANYWHERE[version],
        )
        want_metadata(self.sock, version)
        big_buffer(self.sock)
        self.sock.setblocking(True)
        self.sock.settimeout(0.2)
        self.port = int(self.sock.getsockname()[1])
        self.seen: list[Json] = []
        self.changed = threading.Condition()
        self.closed = False
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while not self.closed:
            try:
                data, ancillary, _, peer = self.sock.recvmsg(65_535, 256)
            except OSError:
                continue  # the 0.2 s timeout; a closed socket ends the loop
            hops, local = metadata(ancillary)
            text, _, _ = data.partition(b"\n")
            nonce, _, sequence = text.decode("utf-8", "replace").partition(" ")
            sighting = {
                "nonce": nonce,
                "sequence": int(sequence) if sequence.isdigit() else -1,
                "source": peer[0].split("%")[0],
                "source_port": peer[1],
                "local": local,
                "hops": hops,
                "bytes": len(data),
                "at": time.time(),
            }
            with self.changed:
                self.seen.append(sighting)
                self.changed.notify_all()
        self.sock.close()

    def matching(self, nonce: str) -> list[Json]:
        return [s for s in self.seen if s["nonce"] == nonce]

    def close(self) -> None:
        self.closed = True


def op_udp_listen(call: Call) -> None:
    """Start to write down datagrams: {version, port, address} -> {handle, port}."""
    sightings = Sightings(call.args)
    call.emit(0, {"handle": call.keep(sightings), "port": sightings.port})


def op_udp_collect(call: Call) -> None:
    """Sightings of ``nonce``; waits at most ``wait`` seconds for ``expect`` of them."""
    args, sightings = call.args, call.kept(call.args["handle"])
    nonce, expect = args["nonce"], int(args.get("expect", 0))
    with sightings.changed:
        sightings.changed.wait_for(
            lambda: len(sightings.matching(nonce)) >= expect, min(float(args["wait"]), call.left)
        )
        seen = sightings.matching(nonce)
    for index, sighting in enumerate(seen):
        call.emit(index, sighting)


def op_udp_send(call: Call) -> None:
    """Numbered datagrams to one target; each result says whether it left this host."""
    args = call.args
    target, version = args["target"], version_of(args["target"])
    with socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as sock:
        set_hops(sock, version, args.get("hops"))
        if args.get("source_port") or args.get("source"):
            sock.bind(
                sockaddr(args.get("source") or ANYWHERE[version], int(args.get("source_port") or 0))
            )
        pace = time.monotonic()
        for sequence in range(int(args["count"])):
            data = f"{args['nonce']} {sequence}\n".encode().ljust(int(args.get("size", 0)), b".")
            result: Json = {"sequence": sequence, "sent": True, "error": None, "outcome": None}
            try:
                sock.sendto(data, sockaddr(target, int(args["port"])))
            except OSError as error:
                number = error.errno or 0
                result.update(sent=False, error=error_text(number, "on sending"))
                result["outcome"] = classify(number, target)
            call.emit(sequence, result)
            pace += float(args.get("interval", 0.0))
            time.sleep(max(0.0, pace - time.monotonic()))


# -- DNS ------------------------------------------------------------------------------------------

RECORDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def dns_query(name: str, record: str, ident: int) -> bytes:
    """A query with recursion desired (RFC 1035 4.1)."""
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0)
    return header + encoded + struct.pack("!2H", RECORDS[record], 1)


def dns_name(message: bytes, at: int) -> tuple[str, int]:
    """Name at an offset, and the offset after it; compression is followed forwards only."""
    labels: list[str] = []
    after = None
    for _ in range(128):
        length = message[at]
        if length >= 0xC0:
            after = at + 2 if after is None else after
            at = struct.unpack("!H", message[at : at + 2])[0] & 0x3FFF
        elif length == 0:
            return ".".join(labels) + ".", at + 1 if after is None else after
        else:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
    raise ValueError("a name that never ends")


def dns_parse(message: bytes) -> Json:
    _, flags, questions, answers, _, _ = struct.unpack("!6H", message[:12])
    at = 12
    for _ in range(questions):
        at = dns_name(message, at)[1] + 4
    records = []
    for _ in range(answers):
        name, at = dns_name(message, at)
        kind, _, ttl, length = struct.unpack("!HHIH", message[at : at + 10])
        at += 10
        record = {"name": name, "type": kind, "ttl": ttl}
        record["value"] = dns_value(message, at, kind, length)
        records.append(record)
        at += length
    rcode = RCODES.get(flags & 0xF, str(flags & 0xF))
    return {"rcode": rcode, "truncated": bool(flags & 0x200), "answers": records}


def dns_value(message: bytes, at: int, kind: int, length: int) -> str:
    data = message[at : at + length]
    if kind == RECORDS["A"]:
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == RECORDS["AAAA"]:
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind in (RECORDS["PTR"], RECORDS["CNAME"], RECORDS["NS"]):
        return dns_name(message, at)[0]
    if kind == RECORDS["SRV"]:
        priority, weight, port = struct.unpack("!3H", data[:6])
        return f"{priority} {weight} {port} {dns_name(message, at + 6)[0]}"
    return data.hex()


def dns_ask(query: Json) -> Json:
    """One query, sent once, to one server of either family."""
    record, server = query["record"].upper(), query["server"]
    ident = struct.unpack("!H", os.urandom(2))[0]
    message = dns_query(query["name"], record, ident)
    kind = socket.SOCK_STREAM if query.get("transport") == "tcp" else socket.SOCK_DGRAM
    began = time.monotonic()
    try:
        with socket.socket(FAMILIES[version_of(server)], kind) as sock:
            sock.settimeout(float(query.get("timeout", 2.0)))
            sock.connect(sockaddr(server, int(query.get("port", 53))))
            answer = dns_exchange(sock, kind, message)
            if answer[:2] != message[:2]:
                raise ValueError("answer to another question")
            parsed = dns_parse(answer)
    except OSError as error:
        number = error.errno or errno.ETIMEDOUT
        return {"outcome": classify(number, server), "rcode": None, "error": str(error)}
    except (ValueError, IndexError, struct.error) as error:
        return {"outcome": "wrong_peer", "rcode": None, "error": f"not a DNS answer: {error}"}
    wanted = [a["value"] for a in parsed["answers"] if a["type"] == RECORDS[record]]
    spent = round((time.monotonic() - began) * 1000, 3)
    return {"outcome": "reached", "values": wanted, "ms": spent, "error": None, **parsed}


def dns_exchange(sock: socket.socket, kind: int, message: bytes) -> bytes:
    if kind == socket.SOCK_DGRAM:
        sock.send(message)
        return sock.recv(65_535)
    sock.sendall(struct.pack("!H", len(message)) + message)
    received = b""
    while len(received) < 2 or len(received) < 2 + struct.unpack("!H", received[:2])[0]:
        data = sock.recv(65_535)
        if not data:
            raise ConnectionError("closed by the server before it answered")
        received += data
    return received[2:]


def op_dns(call: Call) -> None:
    """``queries``: list of {name, record, server, port, transport: udp|tcp, timeout}."""
    call.each(call.args["queries"], dns_ask, threads=32)


def op_getaddrinfo(call: Call) -> None:
    """What this host's resolver answers, in its order: {host, port}."""
    try:
        found = socket.getaddrinfo(
            call.args["host"], call.args.get("port"), type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        call.emit(0, {"addresses": [], "error": str(error)})
        return
    addresses = list(dict.fromkeys(entry[4][0] for entry in found))
    call.emit(0, {"addresses": addresses, "error": None})


# -- packets and frames ---------------------------------------------------------------------------


def op_send_packets(call: Call) -> None:
    """Prebuilt IP packets as hex, header included; each result says whether it left.

    The kernel routes by the destination and leaves the source alone: that is how a forged source
    gets out. It fills in the IPv4 checksum. {packets, interface: optional, interval}.
    """
    sockets: dict[int, socket.socket] = {}
    try:
        for index, text in enumerate(call.args["packets"]):
            packet = bytes.fromhex(text)
            version = packet[0] >> 4
            result: Json = {"sent": False, "error": None, "at": time.time()}
            try:
                if version not in sockets:
                    sockets[version] = raw_socket(version, call.args.get("interface"))
                address = (
                    socket.inet_ntop(socket.AF_INET, packet[16:20])
                    if version == 4
                    else socket.inet_ntop(socket.AF_INET6, packet[24:40])
                )
                sent = sockets[version].sendto(packet, sockaddr(address, 0))
                result["sent"] = sent == len(packet)
            except OSError as error:
                result["error"] = error_text(error.errno or 0, "on sending")
            call.emit(index, result)
            time.sleep(float(call.args.get("interval", 0.0)))
    finally:
        for sock in sockets.values():
            sock.close()


def raw_socket(version: int, interface: str | None) -> socket.socket:
    # IPPROTO_RAW means "header included" in both families (net/ipv4/af_inet.c, af_inet6.c).
    sock = socket.socket(FAMILIES[version], socket.SOCK_RAW, socket.IPPROTO_RAW)
    if interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    return sock


def op_send_frames(call: Call) -> None:
    """Prebuilt Ethernet frames as hex on ``interface``."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((call.args["interface"], 0))
        for index, text in enumerate(call.args["frames"]):
            frame = bytes.fromhex(text)
            try:
                result: Json = {"sent": sock.send(frame) == len(frame), "error": None}
            except OSError as error:
                result = {"sent": False, "error": error_text(error.errno or 0, "on sending")}
            call.emit(index, result)


class Capture:
    """Frames of some interfaces that contain one of some byte strings (all, when none given)."""

    def __init__(self, args: Json) -> None:
        self.match = [bytes.fromhex(text) for text in args.get("match") or []]
        self.snap = int(args.get("snap", 512))
        self.limit = int(args.get("limit", 20_000))
        self.frames: list[Json] = []
        self.seen = self.drops = 0
        self.changed = threading.Condition()
        self.closed = False
        self.sockets: list[socket.socket] = []
        self.epoll = select.epoll()
        interfaces = args.get("interfaces") or [name for _, name in socket.if_nameindex()]
        try:
            for interface in interfaces:
                # Protocol 0 until bound, or frames of all interfaces come in between.
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
                self.sockets.append(sock)
                big_buffer(sock)
                sock.bind((interface, ETH_P_ALL))
                self.epoll.register(sock.fileno(), select.EPOLLIN)
        except OSError:
            self.close()
            raise
        self.by_fd = {sock.fileno(): sock for sock in self.sockets}
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while not self.closed:
            for fd, _ in self.epoll.poll(0.2):
                with contextlib.suppress(OSError):
                    while True:
                        self._take(*self.by_fd[fd].recvfrom(65_535))

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
        self.closed = True
        if hasattr(self, "thread"):
            self.thread.join(2)
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                statistics = sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
                self.drops += struct.unpack("=II", statistics)[1]
            sock.close()
        self.epoll.close()


def op_capture_start(call: Call) -> None:
    """{interfaces, match: [hex], snap, limit} -> {handle}; from now on nothing is missed."""
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


# -- the host -------------------------------------------------------------------------------------


def op_run(call: Call) -> None:
    """Run ``argv`` (a list, no shell) for at most ``timeout`` seconds; ``root`` chroots first."""
    args = call.args
    argv = list(args["argv"])
    if args.get("root"):
        argv = ["chroot", args["root"], *argv]
    try:
        done = subprocess.run(
            argv,
            input=(args.get("input") or "").encode(),
            capture_output=True,
            timeout=min(float(args.get("timeout", 10.0)), call.left),
            check=False,
        )
    except FileNotFoundError:
        call.emit(0, {"rc": 127, "stdout": "", "stderr": f"{argv[0]}: not found"})
        return
    except subprocess.TimeoutExpired as error:
        call.emit(0, {"rc": None, "stdout": "", "stderr": f"not done in {error.timeout:g} s"})
        return
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    call.emit(0, {"rc": done.returncode, "stdout": out, "stderr": err})


def op_read_file(call: Call) -> None:
    """{path} -> {text, error}."""
    try:
        text = Path(call.args["path"]).read_bytes()[: 8 << 20].decode("utf-8", "replace")
    except OSError as error:
        call.emit(0, {"text": None, "error": str(error)})
    else:
        call.emit(0, {"text": text, "error": None})


def op_sysctl(call: Call) -> None:
    """{name} reads, {name, value} writes; {was, value, error}. Dots in interface names: use "/"."""
    name = call.args["name"]
    path = Path("/proc/sys") / (name if "/" in name else name.replace(".", "/"))
    try:
        was = path.read_text().strip()
        if "value" in call.args:
            path.write_text(str(call.args["value"]))
        call.emit(0, {"was": was, "value": path.read_text().strip(), "error": None})
    except OSError as error:
        call.emit(0, {"was": None, "value": None, "error": str(error)})


def op_http_get(call: Call) -> None:
    """{url, timeout, headers} -> {status, body, error}; body is "" when there is no answer."""
    import http.client
    import urllib.parse

    url = urllib.parse.urlsplit(call.args["url"])
    timeout = min(float(call.args.get("timeout", 5.0)), call.left)
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=timeout)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("GET", path, headers=call.args.get("headers") or {})
        response = connection.getresponse()
        body = response.read(4 << 20).decode("utf-8", "replace")
        call.emit(0, {"status": response.status, "body": body, "error": None})
    except (OSError, http.client.HTTPException) as error:
        call.emit(0, {"status": None, "body": "", "error": f"{type(error).__name__}: {error}"})
    finally:
        connection.close()


def op_bird(call: Call) -> None:
    """One BIRD command over its control socket: {socket, command} -> {lines, error}.

    A reply line is "NNNN text" or "NNNN-text" (more to come); " text" continues the one before.
    The first digit says what it is: 0 ok (0001 is the greeting), 1 and 2 data, 8 and 9 errors.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(min(float(call.args.get("timeout", 5.0)), call.left))
        try:
            sock.connect(call.args["socket"])
            reader = sock.makefile("rb")
            bird_reply(reader)
            sock.sendall(call.args["command"].encode() + b"\n")
            lines, error = bird_reply(reader)
        except OSError as failure:
            lines, error = [], f"{call.args['socket']}: {failure}"
    call.emit(0, {"lines": lines, "error": error})


def bird_reply(reader: Any) -> tuple[list[str], str | None]:
    lines: list[str] = []
    for raw in reader:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if line[:4].isdigit() and len(line) >= 4:
            code, last, text = line[:4], line[4:5] != "-", line[5:]
            if code[0] in "89":
                return lines, text
            if text:
                lines.append(text)
            if last and code[0] == "0":
                return lines, None
        else:
            lines.append(line[1:])
    raise ConnectionError("BIRD closed the connection")


def op_processes(call: Call) -> None:
    """Processes whose program is called ``name`` and whose arguments contain ``contains``."""
    for index, (pid, argv) in enumerate(matching(call.args)):
        call.emit(index, {"pid": pid, "argv": argv})


def op_signal_process(call: Call) -> None:
    """Send ``signal`` (e.g. STOP, CONT) to the processes that ``processes`` would list."""
    number = getattr(signal, "SIG" + call.args["signal"])
    for index, (pid, argv) in enumerate(matching(call.args)):
        try:
            os.kill(pid, number)
            call.emit(index, {"pid": pid, "argv": argv, "error": None})
        except OSError as error:
            call.emit(index, {"pid": pid, "argv": argv, "error": str(error)})


def matching(args: Json) -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
        except OSError:
            continue  # it ended meanwhile
        if (
            argv
            and Path(argv[0]).name == args["name"]
            and args.get("contains", "") in " ".join(argv)
        ):
            found.append((int(entry.name), argv))
    return sorted(found)


def op_facts(call: Call) -> None:
    """Who and where this agent is, with its interfaces and routes as ``ip -j`` tells them."""
    facts: Json = {**call.agent.hello(), "error": None}
    tables = {
        "addresses": ["ip", "-j", "addr"],
        "routes4": ["ip", "-j", "-4", "route"],
        "routes6": ["ip", "-j", "-6", "route"],
    }
    for key, argv in tables.items():
        try:
            done = subprocess.run(argv, capture_output=True, timeout=call.left, check=True)
            facts[key] = json.loads(done.stdout or b"[]")
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            facts[key], facts["error"] = [], str(error)
    call.emit(0, facts)


def op_sleep(call: Call) -> None:
    """Do nothing for ``seconds``: how the harness tests that it notices a late agent."""
    time.sleep(float(call.args["seconds"]))
    call.emit(0, {})


# -- batch runner ---------------------------------------------------------------------------------


class Call:
    """One request in work."""

    def __init__(self, agent: Runner, request: Json) -> None:
        self.agent = agent
        self.id = request["id"]
        self.op: str = request["op"]
        self.args: Json = request.get("args") or {}
        self.until = time.monotonic() + float(request.get("deadline") or 60.0)
        self.count = 0
        self.lines: list[str] = []
        self.flushed = time.monotonic()
        self.lock = threading.Lock()

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.until

    def emit(self, index: int, result: Json) -> None:
        """Give one result; many small ones are written together."""
        with self.lock:
            self.count += 1
            self.lines.append(json.dumps({"id": self.id, "i": index, "result": result}))
            now = time.monotonic()
            if now - self.flushed > 0.05 or len(self.lines) > 500:
                self.flushed = now
                self.agent.write(self.lines)
                self.lines = []

    def each(self, items: list[Json], work: Callable[[Json], Json], threads: int) -> None:
        """Do blocking work for each item in threads and emit in order of completion."""
        import concurrent.futures

        with concurrent.futures.ThreadPoolExecutor(min(threads, len(items) or 1)) as pool:
            futures = {pool.submit(work, item): index for index, item in enumerate(items)}
            for future in concurrent.futures.as_completed(futures):
                self.emit(futures[future], future.result())

    def keep(self, thing: Any) -> int:
        return self.agent.keep(thing)

    def kept(self, handle: int) -> Any:
        return self.agent.things[handle]

    def release(self, handle: int) -> Any:
        return self.agent.things.pop(handle)

    def work(self) -> None:
        try:
            OPS[self.op](self)
            self.lines.append(json.dumps({"id": self.id, "done": self.count}))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"id": self.id, "error": text, "traceback": traceback.format_exc()}
            self.lines.append(json.dumps(answer))
        self.agent.write(self.lines)


OPS: dict[str, Callable[[Call], None]] = {
    name[3:]: value for name, value in sorted(globals().items()) if name.startswith("op_")
}


def capabilities() -> Json:
    """What this process may do, found by trying."""
    attempts = {
        "ipv4": (socket.AF_INET, socket.SOCK_DGRAM, 0),
        "ipv6": (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        "ping4": (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        "ping6": (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6),
        "raw4": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        "raw6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0),
        "sctp": (socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP),
    }
    found = {}
    for name, (family, kind, proto) in attempts.items():
        try:
            socket.socket(family, kind, proto).close()
            found[name] = True
        except OSError:
            found[name] = False
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    found["net_admin"] = bool(effective >> 12 & 1)
    return found


class Runner:
    """``agent.py run``: requests from stdin, each in a thread of its own."""

    def __init__(self, name: str, node: str) -> None:
        self.name, self.node = name, node
        self.things: dict[int, Any] = {}
        self.handles = itertools.count(1)
        self.lock = threading.Lock()
        # The stream is ours alone: whatever prints, here or in a child, prints to stderr.
        self.out = os.dup(1)
        os.set_inheritable(self.out, False)
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def hello(self) -> Json:
        return {
            "protocol": PROTOCOL,
            "name": self.name,
            "node": self.node,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "clock": time.time(),
            "ops": sorted(OPS),
            "capabilities": capabilities(),
        }

    def keep(self, thing: Any) -> int:
        handle = next(self.handles)
        self.things[handle] = thing
        return handle

    def write(self, lines: list[str]) -> None:
        if not lines:
            return
        data = ("\n".join(lines) + "\n").encode()
        with self.lock:
            while data:
                data = data[os.write(self.out, data) :]

    def run(self) -> None:
        self.write([json.dumps({"hello": self.hello()})])
        for line in sys.stdin.buffer:
            if not line.strip():
                continue
            try:
                call = Call(self, json.loads(line))
                if call.op not in OPS:
                    raise ValueError(f"unknown op {call.op!r}; known: {', '.join(OPS)}")
            except (ValueError, KeyError, TypeError) as error:
                ident = call_id(line)
                self.write([json.dumps({"id": ident, "error": str(error), "traceback": ""})])
                continue
            threading.Thread(target=call.work, daemon=True).start()
        # The harness is gone. Leave at once: nobody waits for what is still in work.
        os._exit(0)


def call_id(line: bytes) -> Any:
    try:
        return json.loads(line)["id"]
    except (ValueError, KeyError, TypeError):
        return None


def serve(options: argparse.Namespace) -> None:
    server = EchoServer(options.name, options.node)
    add = {"tcp": server.add_tcp, "udp": server.add_udp}
    for protocol in ("tcp", "udp"):
        for port in getattr(options, protocol):
            for version in options.family:
                add[protocol](version, port)
    for port in options.sctp:
        for version in options.family:
            server.add_tcp(version, port, proto=IPPROTO_SCTP)
    print("serving", options.tcp, options.udp, "as", options.name, flush=True)
    if options.ready_file:
        Path(options.ready_file).write_text(str(os.getpid()))
    server.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["serve", "run"])
    parser.add_argument("--name", default=os.environ.get("AGENT_NAME") or socket.gethostname())
    parser.add_argument("--node", default=os.environ.get("NODE_NAME", ""))
    parser.add_argument("--tcp", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--udp", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--sctp", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--family", type=int, choices=[4, 6], action="append", default=[])
    parser.add_argument("--ready-file", help="written when all sockets are bound")
    options = parser.parse_args()
    options.family = options.family or [4, 6]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    if options.command == "run":
        Runner(options.name, options.node).run()
        return
    # As PID 1 of a container there is no default action for signals, and nobody else reaps.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    serve(options)


if __name__ == "__main__":
    main()
