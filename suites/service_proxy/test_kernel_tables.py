"""kube-proxy's rules in the kernel of every node are what the API says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.plan import follows_within
from helpers.proxy_nodes import differences, with_tables
from helpers.proxy_tables import lasting
from helpers.services import agent_service
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_prx_007_rules_equal_the_services(
    family: Family,
    cluster: Cluster,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    workloads: Workloads,
) -> None:
    """On every node the rules of kube-proxy are exactly the Services of the API.

    Given: the Services and EndpointSlices of the API, among them a dual-stack NodePort Service
        made just before, and the iptables chains or nftables maps of every node.
    Then: each clusterIP and port of this family, and each NodePort, is there, leads to endpoints
        where there are ready ones, and nothing else is there: each difference seen now is gone
        within 10 s. NodePorts listen on the node's primary address (nftables; or as
        nodePortAddresses says), and never on loopback.
    Source: KEP-3866; pkg/proxy/iptables and pkg/proxy/nftables.
    """
    nodes = with_tables(cluster.spec, facts)
    if not nodes:
        pytest.skip("no node is declared to run kube-proxy in iptables or nftables mode")
    agent_service(workloads, type="NodePort")
    differing = lasting(
        lambda: differences(kube, facts, agents, nodes, family),
        within=follows_within(agents.nodes.running.values()),
        what=f"rules of {', '.join(nodes)} equal the Services of the API",
    )
    demand_none(differing)
