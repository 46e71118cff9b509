"""The outside behind a smaller link: an address of the test's own, and routers that say so."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from helpers import packets, probes
from helpers.gates import pod_address
from helpers.icmp_errors import Quoted, quote_findings, quoted_udp
from helpers.model import Family, IPAddress, Protocol
from helpers.packets import Forged, Nonce
from helpers.packets.sighting import ip_part
from helpers.pod_netns import POD_INTERFACE
from helpers.probes import Probe
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent

OUTSIDE_INTERFACE: Final = "eth0"
KNOWN_WITHIN: Final = 8.0  # seconds until a new address of the outside host answers
QUOTED: Final = {Family.IPV4: 528, Family.IPV6: 1232}  # RFC 1812 4.3.2.3, RFC 4443 2.4 (c)


@contextmanager
def own_address(outside: Agent, family: Family, *, number: int = 0) -> Iterator[IPAddress]:
    """An address of the outside host that no other test talks to, while the block runs.

    Args:
        number: addresses of different numbers, 0 or 1, are never the same.

    Raises:
        Inconclusive: the host refuses it.
    """
    address = outside.addresses.require(family) + 10 + number * 100 + secrets.randbelow(100)
    whole = f"{address}/{address.max_prefixlen}"
    # Of documentation addresses there are no duplicates to be detected (IPv6 only).
    _address(outside, "add", whole, *(["nodad"] if address.version == 6 else []))
    try:
        yield address
    finally:
        _address(outside, "del", whole)


def settled(pods: Mapping[str, Agent], target: IPAddress, port: int) -> None:
    """Wait until each pod reaches a new address of the outside host; the caller then demands it."""
    wanted = {agent: [Probe(Protocol.UDP, target, port)] for agent in pods.values()}
    with contextlib.suppress(NotSettled):
        eventually(
            lambda: probes.run_all(wanted),
            lambda seen: all(one.reached for each in seen.values() for one in each),
            within=KNOWN_WITHIN,
            what=f"the outside host answers on {target}",
        )


def _address(outside: Agent, verb: str, whole: str, *flags: str) -> None:
    done = outside.call_one("run", argv=["ip", "addr", verb, whole, "dev", "lo", *flags])
    if done["rc"] != 0:
        raise Inconclusive(f"{outside.name}: ip addr {verb} {whole}: {done['stderr'].strip()}")


def too_big(router: IPAddress, packet: bytes, mtu: int, nonce: Nonce) -> Forged:
    """What a router sends back for a packet that does not fit its next link.

    Source: RFC 4443 3.2; RFC 1191 4.
    """
    seen = IP(packet) if router.version == 4 else IPv6(packet)
    quoted = packet[: QUOTED[Family.of(router)]]
    if router.version == 4:
        made = IP(src=str(router), dst=seen.src) / ICMP(type=3, code=4, nexthopmtu=mtu) / quoted
    else:
        made = IPv6(src=str(router), dst=seen.src) / ICMPv6PacketTooBig(mtu=mtu) / quoted
    return Forged(nonce, router, ip_address(seen.src), bytes(made))


@dataclass(frozen=True, slots=True)
class Told:
    """What a pod was told by a router outside of the cluster."""

    pod: str
    address: IPAddress
    target: IPAddress
    port: int
    quotes: tuple[Quoted, ...]

    def findings(self) -> list[str]:
        """EGR-008: the router's error comes back through the nodes' translation, undone inside.

        Source: RFC 5508 4.2, RFC 4443 3.2.
        """
        if not self.quotes:
            return [
                f"pod {self.pod}: a router outside answered that its packet {self.address} -> "
                f"{self.target} was too big, and the answer did not come to the pod: path MTU "
                "discovery is blind; look for rules on the nodes that drop ICMP errors"
            ]
        return quote_findings(
            self.pod, self.quotes, own=self.address, target=self.target, port=self.port
        )


def ask_router(pod: Agent, outside: Agent, router: IPAddress, target: IPAddress, mtu: int) -> Told:
    """Let a pod send outside, and let a router there answer that it was too big.

    Raises:
        Inconclusive: the packet did not come to the outside, or the answer did not leave.
    """
    family = Family.of(target)
    own, port = pod_address(pod, family), 20_000 + secrets.randbelow(9_000)
    (nonce,) = Nonce.fresh()
    sent = packets.udp(own, target, nonce=nonce, sport=port, dport=9, padding=900)
    with packets.capturing(outside, [OUTSIDE_INTERFACE], [nonce], expect=1, wait=3.0) as capture:
        packets.send(pod, [sent])[0].require_sent()
    (there, *_) = capture.require(nonce, f"the packet {sent.label}", "host")
    error = too_big(router, ip_part(there.data), mtu, nonce)
    with packets.capturing(
        pod, [POD_INTERFACE], [nonce], expect=1, wait=3.0, longest=None
    ) as capture:
        packets.send(outside, [error])[0].require_sent()
    quotes = [quoted_udp(frame) for frame in capture.find(nonce) if frame.direction != "outgoing"]
    return Told(pod.identity, own, target, port, tuple(quote for quote in quotes if quote))
