"""Pod packets between nodes where pools encapsulate: CONN-007."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import fabric, gates, paths
from helpers.agents.pool import AgentPool
from helpers.encapsulation import Wrapping, wrapping_findings
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.model import Family
from helpers.verdicts import Blocked

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_conn_007_encapsulated_packets_go_from_node_to_node(
    family: Family, cluster: Cluster, agents: AgentPool, facts: Facts
) -> None:
    """The outer header of an encapsulated packet is the nodes' own, in the packet's family.

    Given: marked datagrams over every ordered pair of nodes, the nodes' fabric interfaces captured
    Then: every frame is in the tunnel that the profile declares for the family, from the address
        that Calico has of the one node to that of the other, of the same family; with CrossSubnet
        the packets of nodes in one subnet are in no tunnel
    Source: Calico felix vxlan_mgr.go; Calico 3.23 release notes (VXLAN over IPv6)
    """
    declared = cluster.spec.encapsulation.of(family)
    if declared.value == "none":
        pytest.skip(f"the profile does not encapsulate {family.kubernetes}")
    every = paths.between_nodes(agents)
    if not every:
        pytest.skip("the cluster has one node, so there is nothing between nodes")
    nodes = {}
    for node in facts.nodes:
        interface = facts.node_network(node.name).interfaces.get(family)
        if interface is None:
            raise Blocked("CFG-012", f"Calico has no {family} address of {node.name}", family)
        nodes[node.name] = interface
    cut = gates.blocked_node_pairs(cluster.state, agents, family)

    crossings = fabric.observe(agents, paths.undisturbed(every, cut, family), family)

    findings = wrapping_findings(crossings, Wrapping(declared, nodes))
    demand_none(findings)
    gates.require_node_pairs(cluster.state, agents, family)
