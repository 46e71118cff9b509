"""A clusterIP answers on the ports of its Service only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.deploy import NODE_PORT
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.model import Family, Protocol
from helpers.plan import Kind, carry_out, demand_outcome, plan, require_reached, settle
from helpers.probes import Outcome
from helpers.proxy_nodes import declared_nodes
from helpers.services import agent_service, backends, cluster_ip
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

# iptables mode has no such promise: what no rule is for leaves by the default route.
PROMISED_BY = ("ipvs", "nftables")


def test_prx_006_other_ports_are_refused(
    family: Family, cluster: Cluster, facts: Facts, agents: AgentPool, workloads: Workloads
) -> None:
    """A clusterIP refuses a port that the Service does not have, although the node has it open.

    Given: a dual-stack Service, and a port that is open on all addresses of every node (TCP and
        UDP echo of the node agents), reached just before on the InternalIP of each node.
    Then: the same port of the clusterIP is refused at once: TCP and UDP from a pod on every node,
        TCP from the nodes themselves. (ipvs and nftables mode.)
    Source: kubernetes#72236, kubernetes#108460 (KUBE-IPVS-FILTER); KEP-3866 (nftables).
    """
    modes = declared_nodes(cluster.spec, facts)
    nodes = [node for node, mode in modes.items() if mode in PROMISED_BY]
    if not nodes:
        pytest.skip("no node is declared to run kube-proxy in ipvs or nftables mode")
    backends(agents, family)
    target = {"clusterIP": cluster_ip(agent_service(workloads), family)}
    # Refusals to one address are rate-limited by the kernel: each test asks from its own pods.
    pods = workloads.pods(nodes, families=[family])
    clients = {f"pod on {pod.node}": workloads.agent(pod) for pod in pods}
    hosts = {f"node {node}": agents.nodes[node] for node in nodes}
    tcp = Kind("tcp", Protocol.TCP, 80)
    settle(plan(clients | hosts, target, [tcp], timeout=1.0), "the Service answers")
    kinds = [Kind(f"{p} {NODE_PORT}", p, NODE_PORT) for p in (Protocol.TCP, Protocol.UDP)]
    internal = {node.name: node.internal_ips.of(family) for node in facts.nodes}
    opened = {f"node {node}": address for node in nodes if (address := internal[node])}
    require_reached(carry_out(plan(clients | hosts, opened, kinds)), by="CFG-009")
    demand_outcome(
        # A node's own datagrams are refused when they are sent (EPERM) where nftables does it.
        [*plan(clients, target, kinds), *plan(hosts, target, kinds[:1])],
        Outcome.REFUSED,
        "reached: the node takes the clusterIP for its own and shows its own sockets there (ipvs: "
        "chain KUBE-IPVS-FILTER and its jump in INPUT); timeout: nothing refuses",
    )
