"""What pod packets look like between the nodes: captured frames, judged by their outermost header.

The frames carry a nonce, so that a frame is the pod's whatever it is wrapped in. Encryption hides
the nonce: then datagrams arrive although no frame of theirs was ever seen on the way.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.oneway import OneWay, one_way
from helpers.packets import LONGEST_PROBE
from helpers.parallel import on_each
from helpers.paths import Path, address
from helpers.pod_netns import route_device
from helpers.verdicts import Blocked, Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

DATAGRAMS: Final = 3
TUNNELS: Final = {4: "IPIP (protocol 4)", 41: "an IPv6 tunnel (protocol 41)", 47: "GRE"}
VXLAN_PORT: Final = 4789
SNAP: Final = 256  # bytes of each frame: every header and the nonce


@dataclass(frozen=True, slots=True)
class Outer:
    """Outermost network header of a frame; ``tunnel`` names what it wraps, if anything."""

    source: IPAddress
    target: IPAddress
    tunnel: str | None

    @classmethod
    def of(cls, frame: bytes) -> Outer | None:
        """Parse an Ethernet frame; None when it carries neither IPv4 nor IPv6."""
        packet = Ether(frame).payload
        if isinstance(packet, IP):
            protocol = packet.proto
        elif isinstance(packet, IPv6):
            protocol = packet.nh
        else:
            return None
        tunnel = TUNNELS.get(protocol)
        if isinstance(packet.payload, UDP) and packet.payload.dport == VXLAN_PORT:
            tunnel = f"VXLAN (UDP {VXLAN_PORT})"
        return cls(ip_address(packet.src), ip_address(packet.dst), tunnel)


@dataclass(frozen=True, slots=True)
class Crossing:
    """Datagrams of one path: what arrived, and their frames on both nodes' fabric interfaces."""

    path: Path
    source: IPAddress
    target: IPAddress
    flow: OneWay
    frames: tuple[Outer, ...]


def crossing_findings(crossings: Iterable[Crossing]) -> list[str]:
    """CONN-006: between the nodes the outermost header has the pods' own addresses."""
    found = []
    for crossing in crossings:
        a, b = crossing.path.nodes
        family = Family.of(crossing.source).kubernetes
        what = f"{family} packets of pods from {a} to {b}"
        for frame in sorted(set(crossing.frames), key=str):
            if frame.tunnel:
                found.append(
                    f"{what} cross the nodes' network in {frame.tunnel}, from {frame.source} to "
                    f"{frame.target}; the profile wants them native: set ipipMode and vxlanMode "
                    "of the IPPool to Never"
                )
            elif (frame.source, frame.target) != (crossing.source, crossing.target):
                found.append(
                    f"{what} cross the nodes' network from {frame.source} to {frame.target} "
                    f"instead of from {crossing.source} to {crossing.target}: something on the "
                    "nodes translates pod addresses; look for masquerade rules on the way out"
                )
        if not crossing.frames and crossing.flow.received:
            found.append(
                f"{what} arrive, but none of them is readable between the nodes: they are "
                "encrypted (wireguardEnabled in FelixConfiguration?) or take another interface "
                "than node traffic"
            )
    return found


def require_crossing(crossings: Iterable[Crossing]) -> None:
    """Where neither frames nor datagrams were seen, there is nothing to judge.

    Raises:
        Blocked: by CONN-002, which says that they must arrive.
    """
    gone = [c for c in crossings if not c.frames and not c.flow.received]
    if gone:
        named = listed(f"{c.path.nodes[0]} -> {c.path.nodes[1]}" for c in gone)
        family = Family.of(gone[0].source)
        raise Blocked("CONN-002", f"pod packets leave no node over {family}: {named}", family)


def observe(agents: AgentPool, paths: list[Path], family: Family) -> list[Crossing]:
    """Send datagrams along each path while the nodes' fabric interfaces are captured.

    Raises:
        Inconclusive: a capture could not be made, or dropped frames.
    """
    nonces = {path: secrets.token_hex(8) for path in paths}
    nodes = sorted({node for path in paths for node in path.nodes})
    handles = on_each(nodes, lambda node: _start(agents, node, paths, nonces, family))
    flows = on_each(paths, lambda path: _send(path, nonces[path], family))
    captured = on_each(nodes, lambda node: _stop(agents.nodes[node], handles[node]))
    return [
        Crossing(
            path=path,
            source=address(path.source, family),
            target=address(path.target, family),
            flow=flows[path],
            frames=tuple(
                outer
                for node in path.nodes
                for frame in captured[node]
                if nonces[path].encode() in frame and (outer := Outer.of(frame)) is not None
            ),
        )
        for path in paths
    ]


def _start(
    agents: AgentPool,
    node: str,
    paths: list[Path],
    nonces: Mapping[Path, str],
    family: Family,
) -> int:
    agent = agents.nodes[node]
    agent.require("packet")
    others = [n for path in paths if node in path.nodes for n in path.nodes if n != node]
    fabric = route_device(agent, address(agents.nodes[others[0]], family))
    match = [nonce.encode().hex() for path, nonce in nonces.items() if node in path.nodes]
    started = agent.call_one(
        "capture_start", interfaces=[fabric], match=match, snap=SNAP, longest=LONGEST_PROBE
    )
    return int(started["handle"])


def _send(path: Path, nonce: str, family: Family) -> OneWay:
    return one_way(path.source, path.target, family, DATAGRAMS, nonce=nonce, patience=0.5)


def _stop(agent: Agent, handle: int) -> list[bytes]:
    *frames, report = agent.call("capture_stop", handle=handle)
    if report["drops"]:
        raise Inconclusive(f"{agent.name}: the capture dropped {report['drops']} frames")
    return [bytes.fromhex(frame["frame"]) for frame in frames]
