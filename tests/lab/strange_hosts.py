"""Hosts in the lab that do what no host should: they answer what they must not even take.

Each is a thread with sockets in a pod's namespace, beside the kernel's own stack.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrRouting

from helpers.model import Family
from helpers.packets.extension import chained
from helpers.packets.upper import UDP, internet_checksum
from tests.lab import nft
from tests.lab.topology import PORT, Lab, host_addresses

ETHERNET = 14
ETHERTYPE = 0x86DD
MULTICAST = 0xFF
PORTS = PORT.to_bytes(2, "big") + (20_000).to_bytes(2, "big")  # from the echo server, to anybody
# Gets the sockets that were opened, what came to the first of them, and its sender.
Take = Callable[[list[socket.socket], bytes, Any], None]


@contextmanager
def thread(
    lab: Lab, host: str, opened: Callable[[], list[socket.socket]], take: Take
) -> Iterator[None]:
    """``take`` gets what comes to the first of the sockets that were opened in the pod."""
    made: list[socket.socket] = []
    nft.inside(lab.namespace(host), lambda: made.extend(opened()))
    listening = made[0]
    listening.settimeout(0.1)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                data, sender = listening.recvfrom(65_535)
            except TimeoutError:
                continue
            take(made, data, sender)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
        for each in made:
            each.close()


def all_frames(interface: str) -> socket.socket:
    """Sees every IPv6 frame of an interface, in this thread's network namespace."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    sock.bind((interface, ETHERTYPE))
    return sock


@contextmanager
def strange(lab: Lab, host: str, handle: Callable[[bytes], list[bytes]]) -> Iterator[None]:
    """``handle`` gets every IPv6 packet that comes to the pod, and its results are sent."""

    def opened() -> list[socket.socket]:
        sending = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        return [all_frames("eth0"), sending]

    def take(made: list[socket.socket], frame: bytes, sender: Any) -> None:
        if sender[2] != socket.PACKET_OUTGOING:
            for packet in handle(frame[ETHERNET:]):
                made[1].sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))

    with thread(lab, host, opened, take):
        yield


def executing_routing_headers(packet: bytes) -> list[bytes]:
    """What RFC 2460 wanted of type 0, and RFC 5095 forbids: on to the next address."""
    parsed = IPv6(packet)
    header = parsed.getlayer(IPv6ExtHdrRouting)
    if header is None or header.type != 0 or not header.segleft:
        return []
    upper = bytes(header.payload)
    source, hop = ip_address(parsed.src), ip_address(header.addresses[0])
    return [chained(source, hop, [], (header.nh, upper))]


class Reassembler:
    """Puts fragments together whatever they are, and answers like an echo server."""

    def __init__(self, host: str) -> None:
        self.own = str(host_addresses(host).require(Family.IPV6))
        self.parts: dict[int, bytearray] = {}

    def __call__(self, packet: bytes) -> list[bytes]:
        parsed = IPv6(packet)
        header = parsed.getlayer(IPv6ExtHdrFragment)
        if header is None or parsed.dst != self.own:
            return []
        whole = self.parts.setdefault(header.id, bytearray())
        data, start = bytes(header.payload), header.offset * 8
        whole.extend(bytes(max(0, start + len(data) - len(whole))))
        whole[start : start + len(data)] = data
        if header.m:
            return []
        del self.parts[header.id]
        return [_udp_answer(parsed.src, self.own, bytes(whole))]


def _udp_answer(client: str, own: str, datagram: bytes) -> bytes:
    """An answer that carries the datagram's last bytes: the nonce is among them."""
    payload = datagram[-64:]
    header = PORTS + (8 + len(payload)).to_bytes(2, "big")
    source, target = ip_address(own), ip_address(client)
    total = internet_checksum(source, target, UDP, header + b"\0\0" + payload)
    return chained(source, target, [], (UDP, header + total.to_bytes(2, "big") + payload))


@contextmanager
def strange_relay(lab: Lab, host: str, one: str, other: str) -> Iterator[None]:
    """A host that copies packets to groups from one of its interfaces to another."""

    def take(made: list[socket.socket], frame: bytes, sender: Any) -> None:
        if sender[2] != socket.PACKET_OUTGOING and frame[ETHERNET + 24] == MULTICAST:
            made[1].send(frame)

    with thread(lab, host, lambda: [all_frames(one), all_frames(other)], take):
        yield


UDP_NO_CHECK6_RX = 102  # linux/udp.h; Python has no name for it


@contextmanager
def unchecked_server(lab: Lab, host: str, port: int) -> Iterator[None]:
    """An echo server that takes IPv6 datagrams without a checksum."""

    def opened() -> list[socket.socket]:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
        sock.bind(("::", port))
        return [sock]

    def take(made: list[socket.socket], data: bytes, sender: Any) -> None:
        made[0].sendto(data, sender)

    with thread(lab, host, opened, take):
        yield
