"""Clients that are not pods are masqueraded by kube-proxy, and pods are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.egress import own_addresses
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import pod_address, require_node_pairs
from helpers.model import Family, Protocol
from helpers.off_cluster import host_route, masquerade_findings, preserved_findings, sources_seen
from helpers.plan import Kind, carry_out, follows_within, plan, require_reached, settle
from helpers.services import agent_service, backends, cluster_ip
from helpers.waiting import Deadline
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

AT_LEAST = 1.0  # second for each node's masquerading to be programmed
KINDS = (Kind("tcp", Protocol.TCP, 80), Kind("udp", Protocol.UDP, 80))


def test_prx_005_strangers_are_masqueraded_and_pods_are_not(
    family: Family,
    cluster: Cluster,
    facts: Facts,
    agents: AgentPool,
    outside: Agent,
    workloads: Workloads,
) -> None:
    """Off-cluster clients of a clusterIP are masqueraded by the node they use, pods never.

    Given: a dual-stack Service with a backend on every node; and for each node in turn a route
        on the outside host that leads to the clusterIP via that node.
    Then: TCP and UDP from outside are answered, and backends saw an address of that node; TCP
        and UDP from a pod on every node are answered, and backends saw the pod's own address.
    Source: kube-proxy proxier.go (masquerade what is not local); Kubernetes docs, --cluster-cidr.
    """
    require_node_pairs(cluster.state, agents, family)
    ready = backends(agents, family)
    service = agent_service(workloads)
    target = cluster_ip(service, family)
    pods = {f"pod on {node}": agent for node, agent in agents.peers.items()}
    own = {label: pod_address(agent, family) for label, agent in pods.items()}
    attempts = 2 * len(ready)
    from_pods = plan(pods, {"clusterIP": target}, KINDS, attempts=attempts)
    settle(plan(pods, {"clusterIP": target}, KINDS, timeout=1.0), "pods reach the clusterIP")
    answered = carry_out(from_pods)
    require_reached(answered, by="SVC-007")
    findings = preserved_findings(answered, own, facts.declared_pod_cidrs)

    client = outside.addresses.require(family)
    patience = Deadline(follows_within(pods.values()))  # of all nodes together
    for node in facts.nodes:
        via = node.internal_ips.require(family)
        steps = plan(
            {"outside": outside},
            {f"clusterIP via {node.name}": target},
            KINDS,
            attempts=attempts,
            origin={"outside": client},
        )
        with host_route(outside, target, via):
            reached = f"the outside reaches the clusterIP via {node.name}"
            settle(steps, reached, max(patience.remaining, AT_LEAST))
            answered = carry_out(steps)
        findings += masquerade_findings(
            node.name,
            sources_seen(answered),
            node_addresses=[via, *own_addresses(agents.nodes[node.name], family)],
            client=client,
            cluster_cidr=facts.kube_proxy.get("clusterCIDR") or "unset",
        )
    demand_none(findings)
