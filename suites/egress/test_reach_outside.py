"""Pods reach hosts outside of the cluster."""

from __future__ import annotations

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.gates import pod_address
from helpers.model import Family, Protocol
from helpers.plan import Kind, demand_reached, plan


def _decide_reach(agents: AgentPool, outside: Agent, family: Family) -> None:
    sources = {f"pod on {node}": agent for node, agent in agents.pods.items()}
    for agent in sources.values():
        pod_address(agent, family)
    targets = {
        f"outside {address}": address
        for address in outside.addresses.all
        if Family.of(address) is family
    }
    kinds = [
        Kind("tcp", Protocol.TCP, outside.port),
        Kind("udp", Protocol.UDP, outside.port),
        Kind("echo", Protocol.ICMP, None),
    ]
    steps = plan(sources, targets, kinds)
    demand_reached(
        steps,
        f"look at the {family.kubernetes} default route and forwarding of the nodes that fail, at "
        "rules that drop what leaves cali interfaces, and at the way back to the pods",
    )


def test_egr_001_pods_reach_outside_over_ipv4(
    family: Family, agents: AgentPool, outside: Agent
) -> None:
    """A pod on every node reaches every outside IPv4 address by TCP, UDP and echo.

    Given: a pod on each node, and a host outside that no cluster network contains.
    Then: connection, datagram and echo request are answered, each at the first attempt.
    Source: Kubernetes docs "IPv4/IPv6 dual-stack", egress traffic.
    """
    _decide_reach(agents, outside, family)


def test_egr_002_pods_reach_outside_over_ipv6(
    family: Family, agents: AgentPool, outside: Agent
) -> None:
    """A pod on every node reaches the outside IPv6 address by TCP, UDP and echo.

    Given: a pod on each node, and a host outside that no cluster network contains.
    Then: connection, datagram and echo request are answered, each at the first attempt.
    Source: Calico 3.11 announcement ("IPv6 native"); Kubernetes docs, egress traffic.
    """
    _decide_reach(agents, outside, family)
