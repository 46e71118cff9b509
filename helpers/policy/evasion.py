"""Ways to write one UDP datagram so that a filter might not recognise it: NPOL-012.

Each variant is legal to send and must be judged by its UDP port like the plain datagram. Where the
RFCs forbid to deliver a variant at all, that is said, because no control can show it arriving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from helpers.model import IPAddress
from helpers.packets import Forged, Nonce
from helpers.packets.extension import (
    Header,
    chained,
    destination_options,
    hop_by_hop,
    padding,
)
from helpers.packets.fragments import atomic, fragmented, pieces
from helpers.packets.upper import Upper, udp
from helpers.policy.packets import Builder

SOURCE_PORTS: Final = range(20_000, 60_000)
OCTETS: Final = 400  # of the payload: enough for fragments that each carry the nonce
PIECE: Final = 104  # octets of a fragment, a multiple of 8
FIRST_PIECE: Final = 48  # octets of the padding that hides the UDP header (RFC 7112)
MANY: Final = 12  # headers of a long chain
VXLAN_PORT: Final = 4789
BESIDE_VXLAN: Final = 4790  # any other port: its datagram is not a tunnel's

# Writes the packets of one datagram to a port.
Variant = Callable[[IPAddress, IPAddress, Upper], list[bytes]]


def _with(*headers: Header) -> Variant:
    return lambda source, target, upper: [chained(source, target, headers, upper)]


def _split(source: IPAddress, target: IPAddress, upper: Upper) -> list[bytes]:
    return fragmented(source, target, upper, pieces(len(upper[1]), PIECE))


def _tiny_first(source: IPAddress, target: IPAddress, upper: Upper) -> list[bytes]:
    """The first fragment has the UDP header and nothing else."""
    end = len(upper[1])
    return fragmented(source, target, upper, [(0, 8), (8, end)])


def _padded_first(source: IPAddress, target: IPAddress, upper: Upper) -> list[bytes]:
    """The first fragment has options only; the UDP header is in the second."""
    options = [destination_options(padding(FIRST_PIECE - 2))]
    end = FIRST_PIECE + len(upper[1])
    cut = [(0, FIRST_PIECE), (FIRST_PIECE, end)]
    return fragmented(source, target, upper, cut, after=options)


LEGAL: Final[Mapping[str, Variant]] = {
    "plain": _with(),
    "hop-by-hop": _with(hop_by_hop(padding())),
    "destination options": _with(destination_options(padding())),
    f"{MANY} headers": _with(*[destination_options(padding())] * MANY),
    "atomic fragment": lambda source, target, upper: [atomic(source, target, upper)],
    "fragments": _split,
    "tiny first fragment": _tiny_first,
}
# RFC 7112 5: a first fragment without the whole chain of headers should be discarded.
NEVER_DELIVERED: Final[Mapping[str, Variant]] = {"UDP header in the second fragment": _padded_first}


def _source_port(nonce: Nonce) -> int:
    """Another one for each packet: a flow that was open before the policy stays open."""
    return SOURCE_PORTS[(nonce.flow * 64 + nonce.sequence) % len(SOURCE_PORTS)]


def builder(variant: Variant, port: int) -> Builder:
    """What sends one variant of a datagram to a port."""

    def build(source: IPAddress, target: IPAddress, nonce: Nonce) -> list[Forged]:
        upper = udp(source, target, nonce, sport=_source_port(nonce), dport=port, octets=OCTETS)
        return [Forged(nonce, source, target, data) for data in variant(source, target, upper)]

    return build


def kinds(variants: Mapping[str, Variant], *ports: int) -> dict[str, Builder]:
    """Every variant to every port, by the detail that a cell shows."""
    return {
        f"{name} to {port}": builder(variant, port)
        for name, variant in variants.items()
        for port in ports
    }


def tunnelled(port: int) -> Builder:
    """VXLAN with a datagram of the sender's own inside, to any port."""

    def build(source: IPAddress, target: IPAddress, nonce: Nonce) -> list[Forged]:
        link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        inner = IPv6(src=str(source), dst=str(target)) / UDP(dport=9) / Raw(bytes(nonce))
        header = IPv6(src=str(source), dst=str(target), hlim=64)
        outer = header / UDP(sport=_source_port(nonce), dport=port) / VXLAN(vni=4096, flags=8)
        return [Forged(nonce, source, target, bytes(outer / link / inner))]

    return build
