"""ICMP and ICMPv6 echoes."""

from __future__ import annotations

import os
import socket
import struct

from helpers.agents.remote.flows import Flow
from helpers.agents.remote.sockets import FAMILIES, metadata, sockaddr, want_metadata

SO_ATTACH_FILTER = 26


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
