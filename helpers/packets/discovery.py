"""Neighbour discovery as nobody should believe it: advertisements, solicitations, redirects.

All leave with hop limit 255 unless told otherwise, because receivers ignore any other (RFC 4861
6.1, 7.1, 8.1). The nonce is in an option for experiments that receivers skip (RFC 4861 4.6).
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Final

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.packet import Packet

from helpers.packets.fragments import fragmented
from helpers.packets.nonce import Forged, Nonce
from helpers.packets.upper import ICMPV6

ON_LINK: Final = 255
EXPERIMENT: Final = 253  # RFC 4727 5.1.3: an option for experiments, skipped by others
FIRST_PIECE: Final = 24  # a neighbour advertisement without its options
ALL_NODES: Final = IPv6Address("ff02::1")


def _carrying(nonce: Nonce) -> Packet:
    """An option of 24 octets with the nonce."""
    return ICMPv6NDOptUnknown(type=EXPERIMENT, len=3, data=bytes(nonce) + bytes(6))


def _finished(
    source: IPv6Address, target: IPv6Address, message: Packet, nonce: Nonce, hop_limit: int
) -> Forged:
    fixed = IPv6(src=str(source), dst=str(target), hlim=hop_limit)
    return Forged(nonce, source, target, bytes(fixed / message / _carrying(nonce)))


def router_advertisement(
    source: IPv6Address, target: IPv6Address, nonce: Nonce, *, mac: str, prefix: IPv6Network,
    seconds: int, hop_limit: int = ON_LINK,
) -> Forged:  # fmt: skip
    """A router that offers itself and a prefix for addresses (RFC 4861 4.2, RFC 4862 5.5.3).

    It sets nothing that would outlive ``seconds`` where it is believed: no MTU, no hop limit.
    """
    message = (
        ICMPv6ND_RA(chlim=0, routerlifetime=seconds)
        / ICMPv6NDOptPrefixInfo(
            prefix=str(prefix.network_address),
            prefixlen=prefix.prefixlen,
            L=1,
            A=1,
            validlifetime=seconds,
            preferredlifetime=seconds,
        )
        / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    )
    return _finished(source, target, message, nonce, hop_limit)


def neighbour_advertisement(
    source: IPv6Address, target: IPv6Address, nonce: Nonce, *, claimed: IPv6Address, mac: str,
    hop_limit: int = ON_LINK,
) -> Forged:  # fmt: skip
    """ "``claimed`` is at ``mac``", overriding what was known (RFC 4861 4.4)."""
    message = ICMPv6ND_NA(R=1, S=1, O=1, tgt=str(claimed)) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    return _finished(source, target, message, nonce, hop_limit)


def neighbour_solicitation(
    source: IPv6Address, target: IPv6Address, nonce: Nonce, *, asked: IPv6Address, mac: str
) -> Forged:
    """ "I, ``source``, am at ``mac``; where is ``asked``?" (RFC 4861 4.3)."""
    message = ICMPv6ND_NS(tgt=str(asked)) / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return _finished(source, target, message, nonce, ON_LINK)


def redirect(
    source: IPv6Address, target: IPv6Address, nonce: Nonce, *, destination: IPv6Address,
    better: IPv6Address, mac: str,
) -> Forged:  # fmt: skip
    """ "The better way to ``destination`` is ``better``" (RFC 4861 4.5)."""
    message = ICMPv6ND_Redirect(tgt=str(better), dst=str(destination)) / ICMPv6NDOptDstLLAddr(
        lladdr=mac
    )
    return _finished(source, target, message, nonce, ON_LINK)


def in_fragments(whole: Forged) -> list[bytes]:
    """The same in two fragments, which receivers must ignore (RFC 6980 5)."""
    data = whole.data[40:]
    cut = [(0, FIRST_PIECE), (FIRST_PIECE, len(data))]  # the nonce is in the second one
    return fragmented(whole.source, whole.target, (ICMPV6, data), cut, hop_limit=ON_LINK)
