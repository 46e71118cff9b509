"""Services of every kind, asked from every position: one matrix for each family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.gates import require_node_pairs
from helpers.model import FAMILIES, Family, Protocol
from helpers.plan import Kind, demand_reached, plan, settle
from helpers.service_external import drawn_addresses, give_ingress
from helpers.services import SINGLE, agent_service, backends, clients_inside, cluster_ip
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

PORT = 80


def test_svc_007_every_kind_from_every_position(
    family: Family, cluster: Cluster, facts: Facts, agents: AgentPool, workloads: Workloads
) -> None:
    """Services of every kind answer from every position, whatever mode its kube-proxy runs in.

    Given: Services with a backend on every node: dual-stack in both orders, of this family alone,
        NodePort, externalIPs, load balancer, session affinity.
    Then: TCP and UDP of a pod on every node and of every node are answered by each, NodePorts on
        every node's InternalIP; from outside, NodePorts are.
    Source: KEP-563; Kubernetes e2e dual_stack.go.
    """
    require_node_pairs(cluster.state, agents, family)
    backends(agents, family)
    external, balancer = drawn_addresses(), drawn_addresses()
    made = {
        "IPv4 first": agent_service(workloads, families=FAMILIES),
        "IPv6 first": agent_service(workloads, families=FAMILIES[::-1]),
        "one family": agent_service(workloads, policy=SINGLE, families=[family]),
        "affinity": agent_service(workloads, sessionAffinity="ClientIP"),
    }
    targets = {f"clusterIP, {kind}": cluster_ip(one, family) for kind, one in made.items()}
    agent_service(workloads, externalIPs=[str(a) for a in external.values()])
    lb = agent_service(workloads, type="LoadBalancer")
    give_ingress(workloads.kube, lb, list(balancer.values()))
    targets |= {"externalIP": external[family], "load balancer": balancer[family]}
    node_port = agent_service(workloads, type="NodePort")
    nodes = {f"NodePort of {n.name}": n.internal_ips.require(family) for n in facts.nodes}
    inside = {
        f"{label} ({facts.proxy_mode(agent.node or '')})": agent
        for label, agent in clients_inside(agents).items()
    }
    everybody = {**inside, **({"outside": agents.outside} if agents.outside else {})}
    steps = [
        step
        for protocol in (Protocol.TCP, Protocol.UDP)
        for step in (
            *plan(inside, targets, [Kind(protocol.value, protocol, PORT)]),
            *plan(
                everybody, nodes, [Kind(protocol.value, protocol, node_port.node_ports[protocol])]
            ),
        )
    ]
    settle(steps, "every Service answers from every position")
    demand_reached(
        steps,
        "where all cells of one node's clients fail, its kube-proxy does not follow the API; where "
        "those of one kind of Service do, compare its rules with those of another kind",
    )
