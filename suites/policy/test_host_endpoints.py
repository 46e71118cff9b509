"""Nodes under policy: NPOL-010."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from helpers.agents.deploy import NODE_PORT
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.host_endpoints import forget_nodes, protected_host, unresolved
from helpers.kube import Kube
from helpers.matrix import decide
from helpers.model import Family, Protocol
from helpers.paths import address
from helpers.plan import Kind, plan
from helpers.pod_netns import route_device
from helpers.policy.table import held, require_open, settled, table

if TYPE_CHECKING:
    from clusters.api import Cluster

ALLOWED: Final = Kind("tcp", Protocol.TCP, NODE_PORT)
DENIED: Final = (Kind("udp", Protocol.UDP, NODE_PORT), Kind("echo", Protocol.ICMP, None))
FLUSHES: Final = 5


def test_npol_010_a_node_under_policy_keeps_ipv6(
    family: Family, cluster: Cluster, kube: Kube, facts: Facts, agents: AgentPool
) -> None:
    """A node whose interface is a HostEndpoint goes on finding the others, and they it.

    Given: a HostEndpoint on a worker's fabric interface, under a policy that lets neighbour
        discovery, kubelet and the node agent's TCP port in, and nothing else
    Then: the other nodes reach that port over IPv6 and get no answer to UDP and echo; after the
        neighbour entries of all nodes are flushed, the port answers at the first attempt, again
        and again, and every node has the others' link-layer addresses
    Source: Calico docs "Protect hosts"; Calico felix rules/static.go (ICMPv6Filter is for
        workloads only); RFC 4861
    """
    require_node_pairs(cluster.state, agents, family)
    name = next((n.name for n in facts.nodes if not n.control_plane), None)
    others = {f"node {n}": agent for n, agent in agents.nodes.items() if n != name}
    if name is None or not others:
        pytest.skip("the cluster has no worker beside another node")
    host = agents.nodes[name]
    at = address(host, family)
    device = route_device(host, address(next(iter(others.values())), family))
    interfaces = {agent: route_device(agent, at) for agent in others.values()} | {host: device}
    label = f"node {name}"
    steps = plan(others, {label: at}, [ALLOWED, *DENIED])
    steps += plan({label: host}, {n: address(a, family) for n, a in others.items()}, [ALLOWED])
    truth = table(steps, lambda cell: cell.detail == ALLOWED.detail)
    require_open(truth)

    with protected_host(kube, name, device):
        settled(truth, f"policy of the HostEndpoint of {name}")
        for _ in range(FLUSHES):
            forget_nodes(interfaces, family)
            seen = truth.look()
            findings = unresolved(host, device, {n: address(a, family) for n, a in others.items()})
            for agent in others.values():
                findings += unresolved(agent, interfaces[agent], {label: at})
            demand_none(findings)
            decide(seen, truth.expected)
        held(truth, f"policy of the HostEndpoint of {name}")
