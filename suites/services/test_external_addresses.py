"""Addresses from outside of the cluster that belong to a Service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, demand_reached, plan, settle
from helpers.service_external import demand_reached_through, drawn_addresses, give_ingress
from helpers.services import agent_service, backends, clients_inside, require_family
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

KINDS = (Kind("tcp", Protocol.TCP, 80), Kind("udp", Protocol.UDP, 80))
HINT = (
    "where all cells of one node fail, its kube-proxy does not follow the API; where those of all "
    "nodes do, look for the gate AllowServiceExternalIPs (Kubernetes >=1.36) and admission policies"
)


def test_svc_013_external_addresses_lead_to_the_endpoints(
    family: Family,
    cluster: Cluster,
    facts: Facts,
    agents: AgentPool,
    outside: Agent,
    workloads: Workloads,
) -> None:
    """externalIPs and load balancer addresses of each family answer, from inside and outside.

    Given: a dual-stack Service with externalIPs of both families, one of type LoadBalancer whose
        status was given an address of each family, both with a backend on every node; and for
        each node in turn a route on the outside host that leads to these addresses via that node.
    Then: TCP and UDP to both addresses of this family are answered from a pod on every node, from
        every node, and from outside through every node.
    Source: KEP-563; KEP-5707 (externalIPs); KEP-1860 (ipMode).
    """
    require_node_pairs(cluster.state, agents, family)
    backends(agents, family)
    external, balancer = drawn_addresses(), drawn_addresses()
    one = agent_service(workloads, externalIPs=[str(a) for a in external.values()])
    other = agent_service(workloads, type="LoadBalancer")
    give_ingress(workloads.kube, other, list(balancer.values()))
    for service in (one, other):
        require_family(service, family)
    targets = {"externalIP": external[family], "load balancer": balancer[family]}
    clients = clients_inside(agents)
    settle(plan(clients, targets, KINDS, timeout=1.0), "the external addresses answer inside")
    demand_reached(plan(clients, targets, KINDS, attempts=2), HINT)
    nodes = {node.name: node.internal_ips.require(family) for node in facts.nodes}
    client = outside.addresses.require(family)
    demand_reached_through(outside, targets, nodes, KINDS, client, HINT)
