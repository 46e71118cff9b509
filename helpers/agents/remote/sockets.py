"""Sockets of exactly one family: addresses, options, and what comes with a datagram."""

from __future__ import annotations

import functools
import socket
import struct
from typing import Any

CHUNK = 262_144
MAX_HEADER = 4096
IP_PKTINFO, IP_RECVTTL = 8, 12  # Python has no names for them on Linux
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
IPV6_RECVERR = 25
IPPROTO_SCTP = 132
SO_RCVBUFFORCE = 33  # needs CAP_NET_ADMIN, ignores net.core.rmem_max
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ANYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # an echo server answers on every address


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
        # Unasked, an IPv6 ping socket hides Packet Too Big; an IPv4 one tells (ping.c: ping_err).
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)


@functools.lru_cache(maxsize=1)
def pattern_block() -> bytes:
    return struct.pack(f"!{CHUNK // 4}I", *range(CHUNK // 4))


def pattern(size: int) -> bytes:
    """``size`` bytes that never repeat within a packet: reordering and truncation show."""
    block = pattern_block()
    return block[:size] if size <= CHUNK else (block * (size // CHUNK + 1))[:size]
