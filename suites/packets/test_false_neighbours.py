"""A pod cannot make itself a router, nor somebody else's neighbour."""

from __future__ import annotations

from ipaddress import IPv6Address

from helpers.agents.pool import AgentPool
from helpers.false_neighbours import Attack, Attacker, advertisements, attack, claims
from helpers.findings import demand_none
from helpers.gates import pod_address
from helpers.model import Family
from helpers.paths import address


def _attackers(agents: AgentPool, family: Family) -> dict[str, Attacker]:
    return {
        node: Attacker.of(f"pod on {node}", pod, agents.nodes[node], pod_address(pod, family))
        for node, pod in agents.pods.items()
    }


def _gained(agents: AgentPool, node: str, attacker: Attacker, attacks: list[Attack]) -> list[str]:
    """What an attacker gained on its node and in the other pod of the node."""
    witnesses = [agents.nodes[node], agents.peers[node]]
    return [f"{attacker.name} attacks: {gain}" for gain in attack(attacker, attacks, witnesses)]


def test_pkt_016_router_advertisements_of_pods_are_ignored(
    family: Family, agents: AgentPool
) -> None:
    """A Router Advertisement from a pod changes nothing on its node and in other pods.

    Given: a pod on each node that advertises itself as a router with a prefix, to everybody on
        its link, to the node and to another pod; seen on the node's end of its veth
    Then: neither the node nor the other pod has an address or route of the prefix, or the pod as a
        router
    Source: CVE-2020-13597; RFC 4861 6.3.4; Calico sets accept_ra=0
    """
    found = []
    for node, attacker in _attackers(agents, family).items():
        peer = IPv6Address(pod_address(agents.peers[node], family))
        own = IPv6Address(address(agents.nodes[node], family))
        found += _gained(agents, node, attacker, advertisements(attacker, [own, peer]))
    demand_none(found)


def test_pkt_017_false_neighbours_are_not_believed(family: Family, agents: AgentPool) -> None:
    """Neighbour messages and redirects from a pod change nobody's mind about other addresses.

    Given: a pod on each node that claims the addresses of another pod, of another node and its
        pod: advertisements, solicitations, redirects, with hop limit 254, in fragments; seen on
        the node's end of its veth
    Then: neither the node nor the other pod has the attacker's MAC or a route to it for them
    Source: RFC 4861 7.1, 8.1; RFC 6980 5
    """
    found = []
    nodes = list(agents.nodes)
    for node, attacker in _attackers(agents, family).items():
        peer = IPv6Address(pod_address(agents.peers[node], family))
        others = [name for name in nodes if name != node][:1]
        foreign = [peer]
        for name in others:
            foreign.append(IPv6Address(address(agents.nodes[name], family)))
            foreign.append(IPv6Address(pod_address(agents.pods[name], family)))
        found += _gained(agents, node, attacker, claims(attacker, foreign, peer))
    demand_none(found)
