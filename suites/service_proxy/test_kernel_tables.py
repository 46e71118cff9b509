"""kube-proxy's rules in the kernel of every node are what the API says."""

from __future__ import annotations

import pytest

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import told
from helpers.kube import Kube
from helpers.model import Family
from helpers.naming import AGENT_NAMESPACE
from helpers.plan import PROGRAMMED_WITHIN
from helpers.proxy_nodes import differences, with_tables
from helpers.proxy_tables import lasting
from helpers.services import AGENT_PODS
from helpers.waiting import eventually
from helpers.workloads import Workloads


def test_prx_007_rules_equal_the_services(
    family: Family, kube: Kube, facts: Facts, agents: AgentPool, workloads: Workloads
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
    nodes = with_tables(facts)
    if not nodes:
        modes = ", ".join(sorted(set(facts.proxy_modes.values())))
        pytest.skip(f"no node runs kube-proxy in iptables or nftables mode (they run {modes})")
    workloads.service(selector=AGENT_PODS, namespace=AGENT_NAMESPACE, type="NodePort")
    what = f"rules of {', '.join(nodes)} equal the Services of the API ({family})"
    eventually(
        lasting(lambda: differences(kube, facts, agents, nodes, family)),
        lambda found: not found,
        within=PROGRAMMED_WITHIN,
        describe=lambda found: told(list(found.values())) if found else "equal",
        what=what,
    )
