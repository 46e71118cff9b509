"""A backend that is a client of its own Service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.gates import require_node_pairs
from helpers.matrix import Cell
from helpers.model import Family, Protocol
from helpers.plan import Step, demand_reached, settle
from helpers.probes import Probe
from helpers.service_policies import backend_on_each, service_of_each
from helpers.services import cluster_ip
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

ATTEMPTS = 3


def test_svc_016_a_backend_reaches_itself(
    family: Family, cluster: Cluster, facts: Facts, agents: AgentPool, workloads: Workloads
) -> None:
    """The only backend of a Service reaches itself through the clusterIP.

    Given: on every node a pod that is the only backend of a Service.
    Then: its own TCP and UDP requests to the clusterIP are answered by itself.
    Source: KEP-3866 (hairpin); pkg/proxy/ipvs (KUBE-LOOP-BACK, KUBE-6-LOOP-BACK).
    """
    require_node_pairs(cluster.state, agents, family)
    nodes = [node.name for node in facts.nodes]
    pods = backend_on_each(workloads, nodes, family)
    services = service_of_each(workloads, nodes)
    steps = [
        Step(
            workloads.agent(pod),
            Cell(f"backend on {node}", "its clusterIP", family, str(protocol)),
            Probe(
                protocol,
                cluster_ip(services[node], family),
                80,
                timeout=1.0,
                expect=frozenset([pod.name]),
            ),
        )
        for node, pod in pods.items()
        for protocol in (Protocol.TCP, Protocol.UDP)
        for _ in range(ATTEMPTS)
    ]
    settle(steps, "every backend reaches itself")
    demand_reached(
        steps,
        "the request comes back to the pod with its own address as source, unless the node "
        "masquerades it: look at kube-proxy of that node (ipvs: KUBE-LOOP-BACK and "
        "net.ipv4.vs.conntrack)",
    )
