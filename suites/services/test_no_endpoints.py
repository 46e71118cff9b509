"""A Service without endpoints says so at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, demand_outcome, plan, settle_outcome
from helpers.probes import Outcome
from helpers.service_policies import NOBODY, REFILL, slow_refusals
from helpers.services import PREFER, cluster_ip
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

KINDS = (Kind("tcp", Protocol.TCP, 80), Kind("udp", Protocol.UDP, 80))


def test_svc_015_without_endpoints_clients_are_refused_at_once(
    family: Family, cluster: Cluster, facts: Facts, agents: AgentPool, workloads: Workloads
) -> None:
    """Clients of a Service without endpoints are refused within 2 s instead of waiting.

    Given: a dual-stack Service whose selector matches no pod.
    Then: TCP and UDP to its clusterIP are refused within 2 s for a new pod on every node, TCP for
        the nodes themselves.
    Source: KEP-3866 (reject); ip_vs_core.c (port unreachable where there is no real server).
    """
    require_node_pairs(cluster.state, agents, family)
    # Refusals to one address are rate-limited by the kernel: each test asks from its own pods.
    pods = workloads.pods([node.name for node in facts.nodes], families=[family])
    clients = {f"pod on {pod.node}": workloads.agent(pod) for pod in pods}
    hosts = {f"node {node}": agent for node, agent in agents.nodes.items()}
    service = workloads.service(policy=PREFER, selector=NOBODY)
    target = {"clusterIP": cluster_ip(service, family)}
    # A node's own datagrams are refused when they are sent (EPERM) where nftables does it.
    steps = [*plan(clients, target, KINDS), *plan(hosts, target, KINDS[:1])]
    settle_outcome(steps, Outcome.REFUSED, "every client is refused", every=REFILL)
    answered = demand_outcome(
        steps,
        Outcome.REFUSED,
        "nothing tells the client that there is no endpoint: it waits until it gives up. Look at "
        "kube-proxy of the client's node, and for filters of ICMP(v6) errors",
    )
    demand_none(slow_refusals(answered))
