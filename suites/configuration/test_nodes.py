"""Nodes that are dual-stack themselves: CFG-005, CFG-009, CFG-010."""

from __future__ import annotations

import pytest

from helpers import gates, netstate, node_config
from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.matrix import Cell, Matrix, decide
from helpers.model import Family, Protocol
from helpers.parallel import on_each
from helpers.verdicts import Blocked


def test_cfg_005_every_node_has_one_internal_ip(facts: Facts, family: Family) -> None:
    """Every node registers exactly one InternalIP of the family, primary family first.

    Given: status.addresses of all nodes, and the order of the API server's Service ranges
    Then: one InternalIP of the family, IPv6 not link-local, in the cluster's order
    Source: kubernetes#95239; Kubernetes e2e dual_stack.go
    """
    if facts.minor < 20:
        pytest.skip(f"kubelet of Kubernetes 1.{facts.minor} registers one address (--node-ip)")
    order = tuple(Family.of(cidr) for cidr in facts.service_cidrs)
    found = node_config.internal_ip_findings(facts.nodes, family, order)
    demand_none(found)


def test_cfg_009_nodes_reach_each_other_without_a_tunnel(
    agents: AgentPool, facts: Facts, family: Family
) -> None:
    """Every node reaches every other one on its own address, over the node network itself.

    Given: one echo request and one TCP connection to the kubelet for each ordered pair of nodes
    Then: all are answered, and no route between node addresses leads through a tunnel that
        Calico made
    Source: announcement of Calico 3.11 (IPv6 native on the nodes, no tunnel, no translation)
    """
    addresses = {node.name: node.internal_ips.of(family) for node in facts.nodes}
    known = {name: address for name, address in addresses.items() if address is not None}
    if len(addresses) < 2:
        pytest.skip("the cluster has one node: there are no pairs")
    if len(known) < 2:
        raise Blocked("CFG-005", f"fewer than two nodes have an {family} InternalIP", family)

    observations = gates.node_pair_observations(agents, family)
    observed = Matrix.observed(
        (Cell(source, target, family, protocol), observation)
        for (source, target, protocol), observation in observations.items()
    )
    expected = Matrix.expecting(
        Cell(source, target, family, protocol)
        for source in known
        for target in known
        for protocol in (Protocol.ICMP, Protocol.TCP)
        if source != target
    )
    decide(observed, expected)
    found = node_config.tunnel_findings(netstate.of_nodes(agents), known)
    demand_none(found)


def test_cfg_010_every_node_forwards_the_family(
    agents: AgentPool, facts: Facts, family: Family, evidence: Evidence
) -> None:
    """Every node forwards packets of the family and has a way out for them.

    Given: sysctls and routes in the network namespace of each node
    Then: forwarding is on, IPv6 is not disabled (all, default, the fabric interface), and there
        is a default route of the family
    Source: Calico docs "IPv6", host requirements; Calico felix int_dataplane.go
    """

    states = netstate.of_nodes(agents)
    fabrics = {
        node.name: node_config.fabric_interface(node, family, states[node.name])
        for node in facts.nodes
    }
    seen = on_each(
        fabrics,
        lambda node: netstate.sysctls(
            agents.nodes[node], node_config.forwarding_sysctls(family, fabrics[node])
        ),
    )
    evidence.attach("sysctls.json", seen)
    found = [
        line
        for node, fabric in fabrics.items()
        for line in node_config.forwarding_findings(node, family, states[node], seen[node], fabric)
    ]
    demand_none(found)
