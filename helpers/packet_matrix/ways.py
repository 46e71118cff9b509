"""Ways that packets take: from whom to whom, and the interfaces where they are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from helpers.egress import own_addresses
from helpers.kernels import Version, kernel
from helpers.model import Family, IPAddress
from helpers.packet_matrix.shapes import Ends
from helpers.parallel import on_each
from helpers.paths import Path, address
from helpers.pod_netns import POD_INTERFACE, route_device

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

TARGET: Final = "target"
FIRST: Final = "first node"
LAST: Final = "last node"

OUTSIDE_INTERFACE: Final = "eth0"
SAME_NODE: Final = "same node"
OTHER_NODE: Final = "other node"
CLUSTER_IP: Final = "ClusterIP"
NODE_PORT: Final = "NodePort"
TO_OUTSIDE: Final = "to the outside"
FROM_OUTSIDE: Final = "from the outside"


@dataclass(frozen=True, slots=True)
class Place:
    """Where packets are seen."""

    name: str
    agent: Agent
    interface: str


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """From one agent to another.

    Attributes:
        kind: what sort of way it is, a column of the table: ``same node``.
        label: which one, for messages.
        places: where a packet is seen, from the sender's interface to the receiver's.
        third: interface of a pod that no packet must be led to.
        roles: who an ICMP error's source address is; the other addresses are strangers.
    """

    kind: str
    label: str
    source: Agent
    target: Agent
    ends: Ends
    places: tuple[Place, ...]
    third: Place
    roles: Mapping[IPAddress, str]

    @property
    def sender(self) -> Place:
        return self.places[0]

    @property
    def receiver(self) -> Place:
        return self.places[-1]

    @property
    def every_place(self) -> tuple[Place, ...]:
        return (*self.places, self.third)

    @property
    def kernel(self) -> Version:
        """The newest kernel on the way."""
        return max(kernel(agent) for agent in {place.agent for place in self.places})


def along(
    paths: Sequence[Path], family: Family, nodes: Mapping[str, Agent], bystanders: Sequence[Agent]
) -> list[Way]:
    """Ways of paths between pods, with both nodes' interfaces.

    Args:
        nodes: an agent in each node's own network.
        bystanders: pods; one of them that is at neither end is the way's ``third``.

    Raises:
        Blocked: an agent has no address of the family.
        Inconclusive: a node has no route to a pod.
    """
    own = on_each(
        sorted({node for path in paths for node in path.nodes}),
        lambda node: own_addresses(nodes[node], family),
    )

    def way(path: Path) -> Way:
        third = next(b for b in bystanders if b not in (path.source, path.target))
        ends = Ends(
            address(path.source, family),
            address(path.target, family),
            path.target.port,
            address(third, family),
        )
        return Way(
            kind=SAME_NODE if path.within_node else OTHER_NODE,
            label=" -> ".join(path.names),
            source=path.source,
            target=path.target,
            ends=ends,
            places=_places(path, ends, nodes, family),
            third=Place(f"{POD_INTERFACE} of a third pod", third, POD_INTERFACE),
            roles=roles(ends, own, path.nodes),
        )

    return list(on_each(paths, way).values())


def roles(
    ends: Ends, own: Mapping[str, frozenset[IPAddress]], nodes: tuple[str, str]
) -> dict[IPAddress, str]:
    """Who has which address on a way over two nodes (or one)."""
    found = dict.fromkeys(own[nodes[1]], LAST)
    found |= dict.fromkeys(own[nodes[0]], FIRST)
    return {**found, ends.target: TARGET}


def _places(
    path: Path, ends: Ends, nodes: Mapping[str, Agent], family: Family
) -> tuple[Place, ...]:
    first, last = (nodes[node] for node in path.nodes)
    found = [Place(f"{POD_INTERFACE} of the {path.names[0]}", path.source, POD_INTERFACE)]
    found.append(_on_node(first, ends.source))
    if not path.within_node:
        found.append(_on_node(first, address(last, family)))
        found.append(_on_node(last, address(first, family)))
    found.append(_on_node(last, ends.target))
    found.append(Place(f"{POD_INTERFACE} of the {path.names[1]}", path.target, POD_INTERFACE))
    return tuple(found)


def _on_node(node: Agent, toward: IPAddress) -> Place:
    device = route_device(node, toward)
    return Place(f"{device} of node {node.node}", node, device)


def between_pods(agents: AgentPool, paths: Sequence[Path], family: Family) -> list[Way]:
    """``along`` for the pool of a cluster."""
    pods = [*agents.pods.values(), *agents.peers.values()]
    return along(paths, family, agents.nodes, pods)


# -- ways through Services and to the outside -----------------------------------------------------


def through_service(way: Way, kind: str, address_: IPAddress, port: int) -> Way:
    """The same way, called by the address of a Service whose only backend is the target."""
    ends = replace(way.ends, target=address_, port=port)
    label = f"{way.label} by {kind} {address_}"
    # An error of the backend comes back with the Service's address, or with its own.
    known = {**way.roles, address_: way.roles.get(address_, TARGET)}
    return replace(way, kind=kind, label=label, ends=ends, roles=known)


def outside_ways(
    agents: AgentPool, outside: Agent, nodes: Sequence[str], there: IPAddress
) -> list[Way]:
    """Between pods of some nodes and an address of the host outside, both ways."""
    family = Family.of(there)

    def both(node: str) -> list[Way]:
        pod, host, third = agents.pods[node], agents.nodes[node], agents.peers[node]
        own = own_addresses(host, family)
        inside = address(pod, family)
        eth0 = Place(f"{POD_INTERFACE} of the pod on {node}", pod, POD_INTERFACE)
        far = Place("eth0 of the outside host", outside, OUTSIDE_INTERFACE)
        between = (_on_node(host, inside), _on_node(host, there))
        by = Place(f"{POD_INTERFACE} of a third pod", third, POD_INTERFACE)
        third_address = address(third, family)
        leaving = Way(
            TO_OUTSIDE,
            f"pod on {node} -> outside",
            pod,
            outside,
            Ends(inside, there, outside.port, third_address),
            (eth0, *between, far),
            by,
            {**dict.fromkeys(own, FIRST), there: TARGET},
        )
        coming = Way(
            FROM_OUTSIDE,
            f"outside -> pod on {node}",
            outside,
            pod,
            Ends(there, inside, pod.port, third_address),
            (far, *between[::-1], eth0),
            by,
            {**dict.fromkeys(own, FIRST), inside: TARGET},
        )
        return [leaving, coming]

    return [way for found in on_each(nodes, both).values() for way in found]


def from_outside_by(
    agents: AgentPool, outside: Agent, entry: str, target: Agent, last: str, family: Family
) -> Way:
    """From the outside host over one node to a pod on another, for a NodePort of the first."""
    there, inside = outside.addresses.require(family), address(target, family)
    first, node = agents.nodes[entry], agents.nodes[last]
    third = agents.peers[entry]
    own = {name: own_addresses(agents.nodes[name], family) for name in {entry, last}}
    ends = Ends(there, inside, target.port, address(third, family))
    places = [Place("eth0 of the outside host", outside, OUTSIDE_INTERFACE)]
    places.append(_on_node(first, there))
    if entry != last:
        places.append(_on_node(node, address(first, family)))
    places.append(_on_node(node, inside))
    places.append(Place(f"{POD_INTERFACE} of the backend on {last}", target, POD_INTERFACE))
    return Way(
        FROM_OUTSIDE,
        f"outside -> backend on {last}",
        outside,
        target,
        ends,
        tuple(places),
        Place(f"{POD_INTERFACE} of a third pod", third, POD_INTERFACE),
        roles(ends, own, (entry, last)),
    )
