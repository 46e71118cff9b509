"""Frames that agents captured: dissected, searched for nonces, and known to be complete or not.

Only the needed scapy layers are imported: ``scapy.all`` costs 2 s of every worker's start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN  # noqa: F401  # its import makes scapy dissect UDP 4789
from scapy.packet import Packet

from helpers.agents.client import Agent
from helpers.model import IPAddress
from helpers.packets.nonce import Nonce
from helpers.verdicts import Inconclusive

VXLAN_PORT: Final = 4789  # Calico's default, FelixConfiguration.vxlanPort
WIREGUARD_PORTS: Final = (51820, 51821)  # FelixConfiguration.wireguardListeningPort, ...PortV6
IPIP: Final = 4
LONGEST_PROBE: Final = 1024  # bytes of a frame: what is forged here is shorter, encapsulated too
IPV6_IN_IP: Final = 41


@dataclass(frozen=True, slots=True)
class IpHeader:
    """One IP header of a captured frame. ``protocol`` is the next-header number."""

    source: IPAddress
    target: IPAddress
    hop_limit: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A captured frame.

    Attributes:
        direction: ``outgoing``, or how it came: ``host``, ``otherhost``, ``multicast``.
        at: seconds since the epoch on the capturing host.
        headers: IP headers from the outermost to the innermost; empty for other frames.
        udp_port: UDP destination port behind the outermost IP header, None without UDP.
    """

    interface: str
    direction: str
    at: float
    data: bytes
    headers: tuple[IpHeader, ...]
    udp_port: int | None

    @property
    def outer(self) -> IpHeader:
        return self.headers[0]

    @property
    def inner(self) -> IpHeader:
        return self.headers[-1]

    @property
    def encapsulation(self) -> str | None:
        """``ipip``, ``6in4``, ``vxlan``, ``wireguard``, or None for a native packet."""
        if not self.headers:
            return None
        if self.udp_port in WIREGUARD_PORTS:
            return "wireguard"
        if self.udp_port == VXLAN_PORT:
            return "vxlan"
        return {IPIP: "ipip", IPV6_IN_IP: "6in4"}.get(self.outer.protocol)

    @classmethod
    def parse(cls, captured: dict[str, Any]) -> Frame:
        """From the agent's ``capture_stop``."""
        data = bytes.fromhex(captured["frame"])
        packet = dissect(data)
        layers = list(_layers(packet))
        udp_layer = packet.getlayer(UDP)
        return cls(
            interface=captured["interface"],
            direction=captured["direction"],
            at=captured["at"],
            data=data,
            headers=tuple(map(_header, layers)),
            udp_port=int(udp_layer.dport) if udp_layer is not None else None,
        )

    def __str__(self) -> str:
        told = " in ".join(
            f"{h.source} -> {h.target} (hop limit {h.hop_limit})" for h in reversed(self.headers)
        )
        return f"{self.interface} {self.direction}: {told or 'no IP'}"


def dissect(data: bytes) -> Packet:
    """A frame from an Ethernet interface, or a bare packet from one without link header."""
    frame = Ether(data)
    if frame.haslayer(IP) or frame.haslayer(IPv6):
        return frame
    version = data[0] >> 4 if data else 0
    return {4: IP, 6: IPv6}.get(version, Ether)(data)


def _layers(packet: Packet) -> Iterator[Packet]:
    layer: Packet | None = packet
    while layer is not None and layer.name != "NoPayload":
        if isinstance(layer, IP | IPv6):
            yield layer
        # Only what is carried on purpose: an ICMP error quotes a packet, it does not carry it.
        if isinstance(layer, ICMP) or layer.name.startswith("ICMPv6"):
            return
        layer = layer.payload


def _header(layer: Packet) -> IpHeader:
    is_v4 = isinstance(layer, IP)
    return IpHeader(
        source=ip_address(layer.src),
        target=ip_address(layer.dst),
        hop_limit=int(layer.ttl if is_v4 else layer.hlim),
        protocol=int(layer.proto if is_v4 else layer.nh),
    )


@dataclass(slots=True)
class Capture:
    """What one agent captured; filled when the ``with`` block of ``capturing`` ends.

    Attributes:
        seen: frames that passed the interfaces, whether they matched or not (not counting those
            that are too long to be one of ours).
        drops: frames that the kernel or the agent had to drop.
    """

    agent: Agent
    interfaces: tuple[str, ...]
    frames: list[Frame] = field(default_factory=list)
    seen: int = 0
    drops: int = 0

    def find(self, nonce: Nonce, direction: str | None = None) -> list[Frame]:
        """Frames that carry a nonce, in order of time."""
        wanted = bytes(nonce)
        return [
            frame
            for frame in self.frames
            if wanted in frame.data and direction in (None, frame.direction)
        ]

    def require(self, nonce: Nonce, what: str, direction: str | None = None) -> list[Frame]:
        """Frames that carry the nonce of a control packet.

        Raises:
            Inconclusive: there are none, so the absence of another packet would prove nothing.
        """
        found = self.find(nonce, direction)
        if not found:
            on = ", ".join(self.interfaces)
            raise Inconclusive(
                f"control failed: {what} was not seen by {self.agent.name} on {on} "
                f"({self.seen} frames passed, {self.drops} dropped)"
            )
        return found

    def require_complete(self) -> None:
        """Demand that nothing was dropped.

        Raises:
            Inconclusive: frames were dropped, so an absent frame proves nothing.
        """
        if self.drops:
            raise Inconclusive(
                f"{self.agent.name} dropped {self.drops} frames while capturing: "
                "match fewer frames, or capture on fewer interfaces"
            )


@contextmanager
def capturing(
    agent: Agent,
    interfaces: Iterable[str],
    nonces: Iterable[Nonce] = (),
    *,
    expect: int = 0,
    wait: float = 1.0,
    settle: float = 0.05,
    longest: int | None = LONGEST_PROBE,
) -> Iterator[Capture]:
    """Capture while the block runs; the result is complete when the block has ended.

    Args:
        interfaces: names in the agent's network namespace.
        longest: bytes of the longest frame that can be one of ours; the kernel leaves out longer
            ones, so that another test's bulk transfer does not fill the buffer. None: keep all.
        nonces: keep only frames that carry one of them; none: keep all.
        expect: stop as soon as so many frames were kept.
        wait: seconds to wait for them after the block; without ``expect`` nothing is waited for.
        settle: seconds to go on in any case, for what should not come.

    Raises:
        Inconclusive: the agent was lost or may not capture.
    """
    agent.require("packet")
    names = tuple(interfaces)
    match = [bytes(nonce).hex() for nonce in nonces]
    capture = Capture(agent, names)
    started = agent.call_one("capture_start", interfaces=list(names), match=match, longest=longest)
    handle = started["handle"]
    try:
        yield capture
    except BaseException:
        agent.call("close", handle=handle)
        raise
    *frames, totals = agent.call(
        "capture_stop", wait + settle + 10, handle=handle, expect=expect, wait=wait, settle=settle
    )
    capture.frames = sorted(map(Frame.parse, frames), key=lambda frame: frame.at)
    capture.seen, capture.drops = totals["seen"], totals["drops"]
