"""Nothing in, nothing out: NPOL-001, NPOL-005."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.gates import pod_address, require_node_pairs
from helpers.kube import Kube
from helpers.matrix import Cell
from helpers.model import Family
from helpers.plan import plan
from helpers.policy.bench import FLOWS, Bench
from helpers.policy.dns import DNS_PORTS, METRICS, cluster_dns, name_table
from helpers.policy.objects import pods_in, to_peers
from helpers.policy.table import demand_enforced, table

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_npol_001_default_deny_ingress_keeps_everybody_out(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench
) -> None:
    """A policy that selects all pods of a namespace and allows nothing closes them to everybody.

    Given: a pod on every node in one namespace, reached over TCP, UDP and echo by pods of all
        nodes, by each other, by the other nodes and by the outside
    Then: under a default-deny ingress policy none of them is answered any more, while all of them
        still reach a pod of another namespace
    Source: Kubernetes docs "Network Policies", default deny all ingress traffic
    """
    require_node_pairs(cluster.state, agents, family)
    steps = []
    sources = {}
    for pod in bench.pods:
        clients = bench.clients(pod, family)
        steps += bench.to_pod(clients, pod, family, FLOWS)
        sources |= clients
    witness = {"pod without policy": pod_address(next(iter(agents.peers.values())), family)}
    steps += plan(sources, witness, FLOWS[:1])

    demand_enforced(
        table(steps, lambda cell: cell.target in witness),
        bench.enforced([bench.policy(None, ingress=[])]),
        "default-deny ingress",
    )


def test_npol_005_default_deny_egress_keeps_everything_in(
    family: Family, cluster: Cluster, kube: Kube, agents: AgentPool, bench: Bench
) -> None:
    """A policy without egress rules closes all ways out, DNS too; one for DNS opens names alone.

    Given: two pods that reach pods, other nodes and the outside over TCP, UDP and echo, and the
        cluster's DNS servers over this family
    Then: the one under default-deny egress reaches nothing and resolves no name; the one that is
        allowed DNS resolves names and reaches nothing else, not even another port of the servers
    Source: Kubernetes docs "Network Policies", default deny all egress traffic
    """
    require_node_pairs(cluster.state, agents, family)
    servers = cluster_dns(kube, family)
    silent, asking = bench.protected, bench.friend
    steps = []
    for pod in (silent, asking):
        steps += bench.from_pod(pod, family)
        metrics = {f"{name} metrics": at for name, at in servers.pods.items()}
        steps += plan({pod.label: pod.agent}, metrics, [METRICS])
    resolving = name_table(
        {pod.label: pod.agent for pod in (silent, asking)},
        servers,
        lambda cell: cell.source == asking.label,
    )

    demand_enforced(
        table(steps, _nothing) | resolving,
        bench.enforced(
            [
                bench.policy(silent, egress=[]),
                bench.policy(
                    asking,
                    egress=[
                        to_peers(pods_in(servers.namespace, **servers.labels), ports=DNS_PORTS)
                    ],
                ),
            ]
        ),
        "default-deny egress",
    )


def _nothing(_: Cell) -> bool:
    return False
