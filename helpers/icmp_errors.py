"""ICMP errors as pods get them: captured, dissected down to the packet that they quote, judged."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from scapy.layers.inet import ICMP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPerror6

from helpers import packets, probes
from helpers.agents.client import Agent
from helpers.egress import REACH
from helpers.gates import pod_address
from helpers.model import Family, IPAddress, Protocol
from helpers.packets import Frame, Nonce, dissect
from helpers.parallel import on_each
from helpers.pod_netns import POD_INTERFACE
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Blocked, Inconclusive
from helpers.waiting import NotSettled, eventually

CLOSED_PORT: Final = 9  # discard: nobody listens on the outside host
ERRORS_WITHIN: Final = 4.0
# Hosts send one error a second to each address once a burst is used up (RFC 4443 2.4 f; Linux
# icmp_ratelimit), so another attempt waits for longer than that.
ATTEMPT_EVERY: Final = 1.3


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet that an ICMP error quotes, and whom the error was sent to."""

    delivered_to: IPAddress
    source: IPAddress
    target: IPAddress
    source_port: int
    target_port: int


def quoted_udp(frame: Frame) -> Quoted | None:
    """The UDP packet that a captured ICMP error quotes; None for other frames."""
    packet: Any = dissect(frame.data)
    if not any(map(packet.haslayer, (ICMP, ICMPv6DestUnreach, ICMPv6PacketTooBig))):
        return None
    inner: Any = packet.getlayer(IPerror) or packet.getlayer(IPerror6)
    udp: Any = packet.getlayer(UDPerror)
    if inner is None or udp is None:
        return None
    return Quoted(
        delivered_to=frame.outer.target,
        source=ip_address(inner.src),
        target=ip_address(inner.dst),
        source_port=int(udp.sport),
        target_port=int(udp.dport),
    )


def quote_findings(
    pod: str, quotes: Sequence[Quoted], *, own: IPAddress, target: IPAddress, port: int
) -> list[str]:
    """EGR-007: an ICMP error that reaches a pod quotes the pod's own packet, not its translation.

    Args:
        own: the pod's address.
        target: where the pod sent to; ``port`` is its source port.

    Source: RFC 5508 4.2 (translators restore the embedded packet), RFC 4443 2.4 (c).
    """
    if not quotes:
        return [
            f"pod {pod}: no ICMP error about its UDP packet {own} -> {target} came to its "
            "interface: destination-unreachable is dropped on the way (look for rules that drop "
            f"{'icmp' if own.version == 4 else 'icmpv6'} type destination-unreachable)"
        ]
    return [
        f"pod {pod}: an ICMP error quotes {one.source}:{one.source_port} -> {one.target}, but the "
        f"pod sent {own}:{port} -> {target}: the translation of the flow was not undone inside of "
        "the error"
        for one in quotes
        if (one.source, one.target, one.source_port, one.delivered_to) != (own, target, port, own)
    ]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """What one pod was told of its packets to a closed port.

    Attributes:
        port: source port of the forged packet.
        quotes: packets quoted by the errors that came to the pod's interface.
        socket: what a connected UDP socket of the pod was told.
    """

    port: int
    quotes: tuple[Quoted, ...]
    socket: Observation

    @property
    def complete(self) -> bool:
        return bool(self.quotes) and self.socket.outcome is Outcome.REFUSED

    def socket_findings(self, pod: str) -> list[str]:
        """EGR-007: the pod's socket must be told that the port is closed."""
        if self.socket.outcome is Outcome.REFUSED:
            return []
        return [
            f"pod {pod}: its connected UDP socket saw {self.socket}, expected "
            "refused: applications wait for a timeout instead of an error"
        ]


def require_open_port(pods: Mapping[str, Agent], target: IPAddress, port: int) -> None:
    """Control: each pod reaches the host's open port just before.

    Raises:
        Blocked: by EGR-001 or EGR-002, when one does not.
        Inconclusive: a probe did not run.
    """
    wanted = {agent: [Probe(Protocol.UDP, target, port)] for agent in pods.values()}
    for agent, (seen,) in probes.run_all(wanted).items():
        if seen.outcome is Outcome.INCONCLUSIVE:
            raise Inconclusive(f"{agent.name}: {seen}")
        if not seen.reached:
            family = Family.of(target)
            raise Blocked(REACH[family], f"{agent.name}: {seen}", family)


def port_unreachables(pods: Mapping[str, Agent], target: IPAddress) -> dict[str, Unreachable]:
    """Let each pod send to a closed port until it is told so; at most three attempts.

    Raises:
        Inconclusive: a capture or a packet failed.
    """
    done: dict[str, Unreachable] = {}

    def look() -> dict[str, Unreachable]:
        missing = [name for name in pods if not (name in done and done[name].complete)]
        done.update(on_each(missing, lambda name: _attempt(pods[name], target)))
        return dict(done)

    try:
        eventually(
            look,
            lambda seen: all(one.complete for one in seen.values()),
            within=ERRORS_WITHIN,
            every=ATTEMPT_EVERY,
            what="ICMP errors come back",
            describe=lambda seen: f"{sum(one.complete for one in seen.values())} of {len(seen)}",
        )
    except NotSettled:
        return done  # what is missing is the finding
    return done


def _attempt(pod: Agent, target: IPAddress) -> Unreachable:
    own = pod_address(pod, Family.of(target))
    port = 20_000 + secrets.randbelow(10_000)
    (nonce,) = Nonce.fresh()
    packet = packets.udp(own, target, nonce=nonce, sport=port, dport=CLOSED_PORT)
    with packets.capturing(pod, [POD_INTERFACE], [nonce], expect=2) as capture:
        for shot in packets.send(pod, [packet]):
            shot.require_sent()
    capture.require(nonce, f"the packet {packet.label}", "outgoing")
    quotes = [quoted_udp(frame) for frame in capture.find(nonce) if frame.direction != "outgoing"]
    (told,) = probes.run(pod, [Probe(Protocol.UDP, target, CLOSED_PORT, timeout=1.0)])
    if told.outcome is Outcome.INCONCLUSIVE:
        raise Inconclusive(f"{pod.name}: {told}")
    return Unreachable(port, tuple(quote for quote in quotes if quote), told)
