"""What the outside sees of pods that call it, and pods of the outside: source addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from helpers import probes
from helpers.calico import IPPool
from helpers.findings import listed
from helpers.gates import pod_address
from helpers.model import Family, IPAddress, Protocol
from helpers.oneway import one_way
from helpers.parallel import on_each
from helpers.plan import Answered
from helpers.pod_netns import ip
from helpers.probes import Outcome, Probe
from helpers.verdicts import Blocked, Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.views import NodeView

DATAGRAMS = 3
# The requirements that pods reach the outside at all.
REACH = {Family.IPV4: "EGR-001", Family.IPV6: "EGR-002"}


@dataclass(frozen=True, slots=True)
class Departure:
    """A pod's flow to the outside, as the outside saw it.

    Attributes:
        node_addresses: the node's own addresses of the family, InternalIP first.
        seen: source addresses that the outside saw.
        answered: a connection to the outside got its answer back to the pod.
    """

    pod: str
    node: str
    address: IPAddress
    node_addresses: tuple[IPAddress, ...]
    seen: frozenset[IPAddress]
    answered: bool = True


def source_findings(
    departures: Iterable[Departure], pools: Sequence[IPPool], *, translated: bool
) -> list[str]:
    """EGR-003, EGR-004: the outside must see the node's address, or the pod's own.

    Args:
        translated: what the profile declares for the family (``nat_outgoing``).

    Source: Calico natOutgoing; startup.go defaults true for IPv4, false for IPv6.
    """
    found = []
    for one in departures:
        pool = next((p for p in pools if one.address in p.cidr), None)
        allowed = frozenset(one.node_addresses) if translated else frozenset([one.address])
        if one.seen <= allowed:
            continue  # one that was not seen at all is judged by whether pods reach the outside
        promise = (
            f"an address of node {one.node} ({listed(one.node_addresses)})"
            if translated
            else f"the pod's own {one.address}"
        )
        strange = listed(sorted(one.seen - allowed))
        found.append(
            f"pod {one.pod} on {one.node}: the outside saw {strange} instead of {promise}; "
            + _cause(pool, translated)
        )
    return found


def require_seen(departures: Iterable[Departure], family: Family) -> None:
    """A pod that the outside never saw has no source to be judged.

    Raises:
        Blocked: by EGR-001 or EGR-002, which say that pods reach the outside.
    """
    silent = [f"{one.pod} on {one.node}" for one in departures if not one.seen]
    if silent:
        by = REACH[family]
        raise Blocked(by, f"nothing from {listed(silent)} arrives outside", family)


def _cause(pool: IPPool | None, translated: bool) -> str:
    if pool is None:
        return "no Calico IPPool holds the pod's address"
    flag = f"IPPool {pool.name} has natOutgoing: {str(pool.nat_outgoing).lower()}"
    if pool.nat_outgoing is translated:
        return (
            f"{flag}, as the profile declares: look at Felix's rules on the node "
            "(chain cali-nat-outgoing) and for others that masquerade"
        )
    return f"{flag}, the profile declares {str(translated).lower()}: change the one or the other"


def own_addresses(node: Agent, family: Family) -> frozenset[IPAddress]:
    """Addresses of global scope on a node's interfaces: whom it may masquerade as."""
    entries = ip(node, f"-{family.version}", "addr", "show", "scope", "global")
    # ip(8) leaves an empty entry for an address of another family or scope.
    return frozenset(
        ip_address(a["local"]) for e in entries for a in e.get("addr_info", []) if "local" in a
    )


def departures(
    agents: AgentPool, outside: Agent, nodes: Iterable[NodeView], family: Family
) -> list[Departure]:
    """Let a pod on each node send outside; see ``departure``."""
    target = outside.addresses.require(family)
    internal = {node.name: node.internal_ips.of(family) for node in nodes}

    def depart(name: str) -> Departure:
        return departure(agents.pods[name], agents.nodes[name], internal.get(name), outside, target)

    return list(on_each(agents.pods, depart).values())


def departure(
    pod: Agent, node: Agent, internal: IPAddress | None, outside: Agent, target: IPAddress
) -> Departure:
    """Let a pod send TCP and one-way UDP outside, and ask the outside who it was.

    The datagrams are one-way: the outside's own sightings decide, so that a lost answer hides
    nothing.

    Args:
        internal: the node's InternalIP of the family.
        target: one of the outside's addresses.

    Raises:
        Blocked: by PODIP-002, when the pod has no address of the family.
        Inconclusive: an agent was lost or could not send.
    """
    family = Family.of(target)
    address = pod_address(pod, family)
    (tcp,) = probes.run(pod, [Probe(Protocol.TCP, target, outside.port)])
    if tcp.outcome is Outcome.INCONCLUSIVE:
        raise Inconclusive(f"{pod.name}: {tcp}")
    seen = set(one_way(pod, outside, family, DATAGRAMS, target).sources)
    if tcp.peer_seen is not None:
        seen.add(tcp.peer_seen)
    others = own_addresses(node, family) - {internal}
    return Departure(
        pod=pod.identity,
        node=str(pod.node),
        address=address,
        node_addresses=(*([internal] if internal else []), *sorted(others)),
        seen=frozenset(seen),
        answered=tcp.reached,
    )


def inbound_findings(answered: Iterable[Answered], own: IPAddress) -> list[str]:
    """EGR-011: a pod that the outside calls must see the caller's own address."""
    return [
        f"{cell.detail} from outside ({own}) to the {cell.target}: the pod saw "
        f"{observation.peer_seen}: something on the way masquerades what comes in"
        for cell, observation in answered
        if observation.reached and observation.peer_seen != own
    ]
