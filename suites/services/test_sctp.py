"""SCTP Services, where the nodes' kernels speak SCTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.deploy import POD_PORT
from helpers.agents.pool import AgentPool
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, demand_reached, plan, settle
from helpers.services import PREFER, cluster_ip
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

PORT = 9000
BACKENDS = 2  # on each node that has SCTP


def test_svc_008_sctp_service_answers(
    family: Family, cluster: Cluster, agents: AgentPool, workloads: Workloads
) -> None:
    """The clusterIP of an SCTP Service answers over each family.

    Given: a dual-stack SCTP Service with backends on every node whose kernel has SCTP.
    Then: a pod on each of these nodes and the nodes themselves get an answer to every request.
    Source: KEP-614 (SCTP); Kubernetes e2e dual_stack.go (sctp).
    """
    able = [n for n, agent in agents.nodes.items() if agent.hello["capabilities"].get("sctp")]
    if not able:
        pytest.skip("no node has a kernel with SCTP (CONFIG_IP_SCTP)")
    pairs = [(a, b) for a in able for b in able if a != b]
    require_node_pairs(cluster.state, agents, family, pairs)
    pods = workloads.pods(able * BACKENDS, families=[family])
    for pod in pods:
        listen = {"version": family.version, "protocol": "sctp", "port": POD_PORT}
        workloads.agent(pod).call_one("listen", **listen)
    sctp = {"name": "sctp", "protocol": "SCTP", "port": PORT, "targetPort": POD_PORT}
    service = workloads.service(policy=PREFER, ports=[sctp])
    target = {"clusterIP": cluster_ip(service, family)}
    clients = {f"pod on {node}": agents.peers[node] for node in able}
    clients |= {f"node {node}": agents.nodes[node] for node in able}
    kind = Kind("sctp", Protocol.SCTP, PORT)
    settle(plan(clients, target, [kind], timeout=1.0), "the SCTP Service answers")
    demand_reached(
        plan(clients, target, [kind], attempts=2 * len(pods)),
        "TCP and UDP Services are judged by SVC-007: where they answer, look for filters of SCTP "
        "(protocol 132) and for conntrack without SCTP on the client's node",
    )
