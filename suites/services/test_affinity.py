"""Session affinity keeps a client on one backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, carry_out, plan, require_reached, settle
from helpers.service_policies import affinity_findings
from helpers.services import agent_service, backends, clients_inside, cluster_ip, servers_seen
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

KINDS = (Kind("tcp", Protocol.TCP, 80), Kind("udp", Protocol.UDP, 80))
TRIES = 24  # with two backends a client meets one only by chance in 2^-23 of all runs


def test_svc_012_clients_stay_with_one_backend(
    family: Family, cluster: Cluster, agents: AgentPool, workloads: Workloads
) -> None:
    """A Service with sessionAffinity ClientIP serves each client from one backend.

    Given: a dual-stack Service with a backend on every node and sessionAffinity ClientIP, and its
        twin without, which serves every client from several backends.
    Then: all TCP requests of a pod on any node, and of any node, are served by one backend, and
        so are all UDP requests.
    Source: Kubernetes docs "session stickiness"; Kubernetes e2e dual_stack.go (affinity).
    """
    require_node_pairs(cluster.state, agents, family)
    backends(agents, family)
    sticky = agent_service(workloads, sessionAffinity="ClientIP")
    free = agent_service(workloads)
    clients = clients_inside(agents)
    targets = {"sticky": cluster_ip(sticky, family), "free": cluster_ip(free, family)}
    settle(plan(clients, targets, KINDS, timeout=1.0), "both Services answer")
    seen = {}
    for name, target in targets.items():
        answered = carry_out(plan(clients, {name: target}, KINDS, attempts=TRIES))
        require_reached(answered, by="SVC-007")
        seen[name] = servers_seen(answered)
    demand_none(affinity_findings(seen["sticky"], seen["free"]))
