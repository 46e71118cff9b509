"""Policy behind Services: NPOL-011."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.gates import require_node_pairs
from helpers.model import Family
from helpers.plan import settle
from helpers.policy.bench import NAME, Bench
from helpers.policy.objects import ANYWHERE, block, from_peers, pods_labelled
from helpers.policy.services import by_cluster_ip, by_node_port, service_for
from helpers.policy.table import demand_enforced, table
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_npol_011_services_are_no_way_around_policy(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench, workloads: Workloads
) -> None:
    """Policy of a backend holds for what comes through its Service.

    Given: two Services with one backend each, by clusterIP and by NodePort: the one backend allows
        one pod only, the other everybody of this family
    Then: over TCP and UDP the first answers that pod at its clusterIP and nobody else, neither
        there nor at the NodePort of any node; the second answers everybody at both
    Source: Calico felix rules/static.go (StaticFilterInputForwardCheckChain); Calico docs
        "Apply policy to services"
    """
    require_node_pairs(cluster.state, agents, family)
    closed, opened = bench.protected, bench.stranger
    steps = []
    allowed = set()
    for pod in (closed, opened):
        service = service_for(workloads, bench, pod, family)
        clients = bench.clients(pod, family)
        inside = {name: agent for name, agent in clients.items() if name != "outside"}
        cluster_ip = by_cluster_ip(inside, service, pod, family)
        # At the NodePort of the backend's own node the friend is still itself, and allowed.
        if pod is closed:
            clients.pop(bench.friend.label)
        node_ports = by_node_port(clients, bench, service, pod, family)
        steps += cluster_ip + node_ports
        if pod is opened:
            allowed |= {step.cell for step in cluster_ip + node_ports}
        else:
            allowed |= {s.cell for s in cluster_ip if s.cell.source == bench.friend.label}

    settle(steps, "the Services answer everybody")
    friend = pods_labelled(**{NAME: bench.friend.name})
    demand_enforced(
        table(steps, allowed.__contains__),
        bench.enforced(
            [
                bench.policy(closed, ingress=[from_peers(friend)]),
                bench.policy(opened, ingress=[from_peers(block(ANYWHERE[family]))]),
            ]
        ),
        "policy behind a Service",
    )
