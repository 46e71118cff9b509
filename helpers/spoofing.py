"""Sources that a pod has no right to use, and what became of packets that bear them (PKT-018).

That a forged packet was not seen means something only when a legal one was seen at the same places
just before and the forged one is known to have left the pod.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from helpers import packets
from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.packets import Capture, Forged, Nonce
from helpers.parallel import on_each
from helpers.paths import Path, address, around_nodes, within_nodes
from helpers.pod_netns import POD_INTERFACE, route_device

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

LEGAL: Final = "its own"
# Long enough for a packet that is only late: after the legal one was seen.
SETTLE: Final = 0.5
# Sources that belong to nobody here. 127/8 and ::1 reach a host's own services where they are
# believed (CVE-2020-8558); the unspecified address and multicast are never a packet's source
# beyond the link (RFC 4291 2.5.2, 2.7); the outside is a documentation address.
NOBODY: Final[Mapping[Family, Mapping[str, IPAddress]]] = {
    Family.IPV4: {"outside": ip_address("192.0.2.77"), "loopback": ip_address("127.0.0.1")},
    Family.IPV6: {
        "outside": ip_address("2001:db8::77"),
        "unspecified": ip_address("::"),
        "loopback": ip_address("::1"),
        "multicast": ip_address("ff0e::1"),
    },
}


@dataclass(frozen=True, slots=True)
class Flight:
    """What was seen of one packet.

    Attributes:
        kind: ``LEGAL`` or the kind of forged source.
        sender: label of the pod that sent it.
        left: it was seen going out of the pod's own interface.
        refused: what the sender's kernel said, None when it took the packet.
        seen: where else it was seen, of ``places``.
        places: where a packet that is let through is seen.
    """

    kind: str
    source: IPAddress
    sender: str
    protocol: str
    left: bool
    refused: str | None
    seen: tuple[str, ...]
    places: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.protocol} from {self.sender} with source {self.source} ({self.kind})"


def spoof_findings(flights: Sequence[Flight]) -> list[str]:
    """Forged packets that got further than the first hop.

    Source: Felix static.go (reverse path filter in raw PREROUTING), rules/match_builder.go.
    """
    return [
        f"{Family.of(one.source).kubernetes} {one.label}, not its own, was seen on "
        f"{listed(one.seen)}: anti-spoofing is off for this pod; set workloadSourceSpoofing to "
        "Disabled in FelixConfiguration, remove annotation "
        "cni.projectcalico.org/allowedSourcePrefixes, and see that Felix programs this family "
        "(FELIX_IPV6SUPPORT)"
        for one in flights
        if one.kind != LEGAL and one.seen
    ]


def undecided(flights: Sequence[Flight]) -> list[str]:
    """Why silence proves nothing: a control that was not seen, or a packet that did not leave."""
    found = [
        f"control failed: {one.label} was seen on {listed(one.seen)}, expected on "
        f"{listed(one.places)}"
        for one in flights
        if one.kind == LEGAL and set(one.seen) != set(one.places)
    ]
    return found + [
        f"{one.label} is not known to have left: "
        + (one.refused or "it was not seen on the pod's own interface")
        for one in flights
        if one.kind != LEGAL and not one.left and not one.seen
    ]


# -- observing ------------------------------------------------------------------------------------


def forged_sources(agents: AgentPool, path: Path, family: Family) -> dict[str, IPAddress]:
    """Sources that the path's sender must not use, by kind; never the target's own address."""
    mine, theirs = path.nodes
    neighbour = next(a for a in (agents.pods[mine], agents.peers[mine]) if a is not path.source)
    others = [node for node in agents.pods if node != mine]
    found = {
        "another pod of the node": address(neighbour, family),
        "its node": address(agents.nodes[mine], family),
        **NOBODY[family],
    }
    if others:
        # Not of the receiving node: there the answer to the pod's own question would be the same.
        other = next((node for node in others if node != theirs), others[0])
        found["a pod of another node"] = address(agents.peers[other], family)
        found["another node"] = address(agents.nodes[other], family)
    target = address(path.target, family)
    return {kind: source for kind, source in found.items() if source != target}


def observe(agents: AgentPool, family: Family) -> list[Flight]:
    """Send legal and then forged packets within every node and around all nodes.

    Raises:
        Inconclusive: an agent was lost, or a capture dropped frames.
        Blocked: a pod or node has no address of the family.
    """
    paths = [p for p in within_nodes(agents) if p.source is agents.pods[p.nodes[0]]]
    paths += around_nodes(agents) if len(agents.pods) > 1 else []
    salvos = {path: _salvo(agents, path, family) for path in paths}
    places = {path: _places(agents, path, family) for path in paths}
    where = {name: place for of_path in places.values() for name, place in of_path.items()}
    where |= {_own_end(path): (path.source, POD_INTERFACE) for path in paths}
    nonces = [forged.nonce for salvo in salvos.values() for _, _, forged in salvo]
    with _capturing(where, nonces) as captures:
        shots = on_each(
            paths, lambda path: packets.send(path.source, [forged for _, _, forged in salvos[path]])
        )
    for capture in captures.values():
        capture.require_complete()
    return [
        Flight(
            kind=kind,
            source=forged.source,
            sender=path.names[0],
            protocol=f"{protocol} to the {path.names[1]}",
            left=bool(captures[_own_end(path)].find(forged.nonce, "outgoing")),
            refused=shot.error,
            seen=tuple(p for p in places[path] if captures[p].find(forged.nonce)),
            places=tuple(places[path]),
        )
        for path in paths
        for (kind, protocol, forged), shot in zip(salvos[path], shots[path], strict=True)
    ]


def _salvo(agents: AgentPool, path: Path, family: Family) -> list[tuple[str, str, Forged]]:
    """The packets of one path, legal ones first, each as UDP and as echo request."""
    target = address(path.target, family)
    sources = {LEGAL: address(path.source, family), **forged_sources(agents, path, family)}
    return [
        shot
        for kind, source in sources.items()
        for shot in (
            (kind, "udp", packets.udp(source, target, dport=path.target.port)),
            (kind, "echo request", packets.echo_request(source, target)),
        )
    ]


def _own_end(path: Path) -> str:
    return f"{POD_INTERFACE} of the {path.names[0]}"


def _places(agents: AgentPool, path: Path, family: Family) -> dict[str, tuple[Agent, str]]:
    """Where a packet that is let through is seen: the target, and between the nodes."""
    found = {f"{POD_INTERFACE} of the {path.names[1]}": (path.target, POD_INTERFACE)}
    if not path.within_node:
        mine, theirs = (agents.nodes[node] for node in path.nodes)
        fabric = route_device(mine, address(theirs, family))
        found[f"{fabric} of node {path.nodes[0]}"] = (mine, fabric)
    return found


@contextmanager
def _capturing(
    where: Mapping[str, tuple[Agent, str]], nonces: Sequence[Nonce]
) -> Iterator[dict[str, Capture]]:
    """Capture at all places at once."""
    with ExitStack() as stack:
        captures: dict[str, Capture] = {}
        for number, (place, (agent, interface)) in enumerate(where.items(), 1):
            # They end in the opposite order: the last one begun is the one that all wait for.
            settle = SETTLE if number == len(where) else 0.0
            captures[place] = stack.enter_context(
                packets.capturing(agent, [interface], nonces, settle=settle)
            )
        yield captures
