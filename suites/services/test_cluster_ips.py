"""A Service's clusterIPs answer everyone in the cluster, with every endpoint behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, carry_out, demand_reached, folded, plan, settle
from helpers.services import (
    agent_service,
    backend_clients,
    backends,
    clients_inside,
    cluster_ip,
    refuses_own_fragments,
    servers_seen,
    spread_findings,
)
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

PORT = 80
TCP, UDP = Kind("tcp", Protocol.TCP, PORT), Kind("udp", Protocol.UDP, PORT)
TRIES_PER_ENDPOINT = 20


def test_svc_007_cluster_ip_answers_from_everywhere(
    family: Family,
    cluster: Cluster,
    facts: Facts,
    agents: AgentPool,
    workloads: Workloads,
    evidence: Evidence,
) -> None:
    """The clusterIP of each family answers TCP and UDP, small and of 2 kB, from everywhere.

    Given: a dual-stack Service with a backend on every node, made just before.
    Then: a pod on every node, every node, and every backend itself get an answer to each of
        several requests: none is lost. UDP of 2 kB from nodes in ipvs mode is written down only:
        see ``refuses_own_fragments``.
    Source: Kubernetes e2e dual_stack.go (granular checks: pod, node and endpoint to Service).
    """
    require_node_pairs(cluster.state, agents, family)
    backends(agents, family)
    service = agent_service(workloads)
    target = {"clusterIP": cluster_ip(service, family)}
    sources = {**clients_inside(agents), **backend_clients(agents)}
    # Each backend once: kube-proxy in ipvs mode masquerades last, which only remote ones need.
    tries = len(agents.pods)
    settle(
        plan(sources, target, [TCP, UDP], attempts=tries, timeout=1.0),
        "every client reaches the clusterIP",
    )
    big = Kind("udp of 2 kB", Protocol.UDP, PORT, size=2048)
    large = Kind("tcp of 2 kB", Protocol.TCP, PORT, size=2048)
    own = refuses_own_fragments(facts)
    steps = [
        *plan(sources, target, [TCP, UDP, large], attempts=2 * tries),
        *plan(
            {s: a for s, a in sources.items() if s not in own}, target, [big], attempts=2 * tries
        ),
    ]
    demand_reached(
        steps,
        "the node of the client must translate: where all its cells fail, kube-proxy of that node "
        "does not follow the API (look at its log); where only large datagrams do, fragments are "
        "dropped",
    )
    refusing = {label: agent for label, agent in sources.items() if label in own}
    if refusing:
        told = folded(carry_out(plan(refusing, target, [big], attempts=tries)))
        evidence.attach("udp-2kB-of-ipvs-nodes.txt", told.summary(), always=True)


def test_svc_009_every_endpoint_is_reached(
    family: Family, cluster: Cluster, agents: AgentPool, workloads: Workloads
) -> None:
    """Every ready endpoint answers every client within 20 requests per endpoint.

    Given: a dual-stack Service with a backend on every node.
    Then: a pod on each node, sending 20 requests per endpoint over TCP and as many over UDP, is
        answered by all of them and by nobody else.
    Source: Kubernetes e2e dual_stack.go (all endpoints reachable); kube-proxy.
    """
    require_node_pairs(cluster.state, agents, family)
    ready = backends(agents, family)
    service = agent_service(workloads)
    target = {"clusterIP": cluster_ip(service, family)}
    sources = {f"pod on {node}": agent for node, agent in agents.peers.items()}
    settle(plan(sources, target, [TCP, UDP], timeout=1.0), "every client reaches the clusterIP")
    tries = TRIES_PER_ENDPOINT * len(ready)
    seen = servers_seen(carry_out(plan(sources, target, [TCP, UDP], attempts=tries)))
    findings = spread_findings(seen, ready, tries)
    demand_none(findings)
