"""NodePorts answer on every node, for everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind, demand_reached, plan, settle
from helpers.services import agent_service, backends, clients_inside, require_family
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_svc_010_node_port_answers_on_every_node(
    family: Family, cluster: Cluster, facts: Facts, agents: AgentPool, workloads: Workloads
) -> None:
    """One NodePort number answers on the InternalIP of every node, in each family.

    Given: a dual-stack NodePort Service with a backend on every node.
    Then: TCP and UDP to its number on every node's InternalIP of this family are answered when
        they come from outside, from a pod on any node and from any node, the same one included.
    Source: KEP-563, NodePort; KEP-3866 (nftables: on primary node addresses).
    """
    internal = {f"node {node.name}": node.internal_ips.of(family) for node in facts.nodes}
    without = [
        f"{name} has no {family.kubernetes} InternalIP, so that no NodePort can be reached there: "
        "give its kubelet --node-ip with one address of each family"
        for name, address in internal.items()
        if address is None
    ]
    demand_none(without)
    require_node_pairs(cluster.state, agents, family)
    backends(agents, family)
    service = agent_service(workloads, type="NodePort")
    require_family(service, family)
    targets = {name: address for name, address in internal.items() if address is not None}
    sources = clients_inside(agents)
    if agents.outside is not None:
        sources["outside"] = agents.outside
    kinds = [
        Kind(f"NodePort {kind}", kind, service.node_ports[kind])
        for kind in (Protocol.TCP, Protocol.UDP)
    ]
    settle(plan(sources, targets, kinds, timeout=1.0), "the NodePort answers everywhere")
    steps = plan(sources, targets, kinds, attempts=2)
    setting = facts.kube_proxy.get("nodePortAddresses") or "unset"
    demand_reached(
        steps,
        f"kube-proxy's nodePortAddresses is {setting}: NodePorts listen on addresses of these "
        "networks only; where all cells of one node fail, its kube-proxy does not follow the API",
    )
