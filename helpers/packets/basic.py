"""Plain packets of both families: UDP and echo requests, with any source and hop limit."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from helpers.model import IPAddress
from helpers.packets.nonce import Forged, Nonce


def udp(
    source: IPAddress,
    target: IPAddress,
    *,
    nonce: Nonce | None = None,
    sport: int = 40_000,
    dport: int = 9,
    hop_limit: int = 64,
    padding: int = 0,
) -> Forged:
    """A UDP datagram; the source may be anybody's.

    Raises:
        ValueError: source and target are of different families.
    """
    nonce = nonce or Nonce.fresh()[0]
    transport = UDP(sport=sport, dport=dport) / Raw(bytes(nonce) + b"." * padding)
    return _forged(source, target, hop_limit, transport, nonce)


def echo_request(
    source: IPAddress,
    target: IPAddress,
    *,
    nonce: Nonce | None = None,
    hop_limit: int = 64,
    padding: int = 0,
) -> Forged:
    """An ICMP or ICMPv6 echo request; the source may be anybody's.

    Raises:
        ValueError: source and target are of different families.
    """
    nonce = nonce or Nonce.fresh()[0]
    data = bytes(nonce) + b"." * padding
    ident, number = nonce.flow & 0xFFFF, nonce.sequence & 0xFFFF
    # ICMPv6 carries a pseudo-header checksum and types of its own (RFC 4443), ICMP does not.
    transport = (
        ICMP(type=8, id=ident, seq=number) / Raw(data)
        if target.version == 4
        else ICMPv6EchoRequest(id=ident, seq=number, data=data)
    )
    return _forged(source, target, hop_limit, transport, nonce)


def _forged(
    source: IPAddress, target: IPAddress, hop_limit: int, transport: Packet, nonce: Nonce
) -> Forged:
    if source.version != target.version:
        raise ValueError(f"source {source} and target {target} are of different families")
    header = (
        IP(src=str(source), dst=str(target), ttl=hop_limit)
        if target.version == 4
        else IPv6(src=str(source), dst=str(target), hlim=hop_limit)
    )
    return Forged(nonce, source, target, bytes(header / transport))
