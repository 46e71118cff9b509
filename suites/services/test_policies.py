"""Traffic policies Local: the node's own endpoints or none, and the client's own address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, follows_within, plan, programmed
from helpers.service_policies import (
    LOCAL,
    Locality,
    backend_on_each,
    preserved_source_findings,
    service_of_each,
)
from helpers.services import clients_inside, cluster_ip, require_family
from helpers.waiting import lastingly
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

STAYS_FOR = 2.0  # seconds
SILENT_FOR = 1.0  # seconds that a probe waits for an answer that must not come


def test_svc_011_external_policy_local(
    family: Family,
    cluster: Cluster,
    facts: Facts,
    agents: AgentPool,
    outside: Agent,
    workloads: Workloads,
) -> None:
    """externalTrafficPolicy Local: the client's address is kept, nodes without endpoint are silent.

    Given: for each node a NodePort Service with externalTrafficPolicy Local whose only backend is
        on that node.
    Then: TCP and UDP from outside to the NodePort are answered on the backend's node, which sees
        the outside's own address; on every other node they are not, at the same time.
    Source: Kubernetes docs "externalTrafficPolicy"; KEP-2086.
    """
    require_node_pairs(cluster.state, agents, family)
    nodes = [node.name for node in facts.nodes]
    internal = {node.name: node.internal_ips.require(family) for node in facts.nodes}
    backend_on_each(workloads, nodes, family)
    options = {"type": "NodePort", "externalTrafficPolicy": LOCAL}
    services = service_of_each(workloads, nodes, **options)
    client = outside.addresses.require(family)
    local, remote = [], []
    for home, service in services.items():
        require_family(service, family)
        kinds = [
            Kind(f"{kind} NodePort of a backend on {home}", kind, service.node_ports[kind])
            for kind in (Protocol.TCP, Protocol.UDP)
        ]
        for node in nodes:
            steps = local if node == home else remote
            steps += plan(
                {"outside": outside},
                {f"node {node}": internal[node]},
                kinds,
                timeout=SILENT_FOR,
                origin={"outside": client},
            )
    programmed(local, "the NodePort answers where its backend is")
    seen = lastingly(
        lambda: Locality.observe(local, remote),
        Locality.holds,
        within=follows_within(agents.nodes.running.values()),
        during=STAYS_FOR,
        describe=str,
        what="NodePorts with externalTrafficPolicy Local answer on their backend's node only",
    )
    owned = {name: agents.nodes[name].addresses.all for name in nodes}
    demand_none(preserved_source_findings(seen.answered, client, owned))


def test_svc_011_internal_policy_local(
    family: Family, cluster: Cluster, facts: Facts, agents: AgentPool, workloads: Workloads
) -> None:
    """internalTrafficPolicy Local: clients reach endpoints of their own node, or nothing.

    Given: for each node a Service with internalTrafficPolicy Local whose only backend is there.
    Then: TCP and UDP to its clusterIP are answered to pods on that node and to the node itself,
        and to nobody on any other node, at the same time.
    Source: KEP-2086 (Service internal traffic policy).
    """
    require_node_pairs(cluster.state, agents, family)
    nodes = [node.name for node in facts.nodes]
    backend_on_each(workloads, nodes, family)
    services = service_of_each(workloads, nodes, internalTrafficPolicy=LOCAL)
    kinds = [Kind("tcp", Protocol.TCP, 80), Kind("udp", Protocol.UDP, 80)]
    local, remote = [], []
    for home, service in services.items():
        target = {f"clusterIP of a backend on {home}": cluster_ip(service, family)}
        for label, agent in clients_inside(agents).items():
            steps = local if agent.node == home else remote
            steps += plan({label: agent}, target, kinds, timeout=SILENT_FOR)
    programmed(local, "the clusterIP answers on its backend's node")
    lastingly(
        lambda: Locality.observe(local, remote),
        Locality.holds,
        within=follows_within(agents.nodes.running.values()),
        during=STAYS_FOR,
        describe=str,
        what="clusterIPs with internalTrafficPolicy Local answer on their backend's node only",
    )
