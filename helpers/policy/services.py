"""Services in front of pods that policy protects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.model import Family, Protocol
from helpers.plan import Kind, Step, plan
from helpers.policy.bench import NAME, PORT, Bench, BenchPod
from helpers.services import PREFER, require_family
from helpers.workloads import ServiceView, Workloads, tcp_port, udp_port

if TYPE_CHECKING:
    from helpers.agents.client import Agent

TRANSPORTS = (Protocol.TCP, Protocol.UDP)


def service_for(workloads: Workloads, bench: Bench, pod: BenchPod, family: Family) -> ServiceView:
    """A NodePort Service (with clusterIPs) whose only backend is one pod of the bench.

    Raises:
        Blocked: by CFG-004, when it does not get the family.
    """
    service = workloads.service(
        selector={NAME: pod.name},
        ports=[tcp_port(target=PORT), udp_port(target=PORT)],
        policy=PREFER,
        namespace=bench.namespace,
        type="NodePort",
    )
    require_family(service, family)
    return service


def by_cluster_ip(
    clients: Mapping[str, Agent], service: ServiceView, pod: BenchPod, family: Family
) -> list[Step]:
    """Every client to the clusterIP; the target of a cell says which pod is behind it."""
    kinds = [Kind(str(kind), kind, service.ports[kind]) for kind in TRANSPORTS]
    target = {f"clusterIP of {pod.label}": service.cluster_ips.require(family)}
    return plan(clients, target, kinds, expect=frozenset({pod.name}))


def by_node_port(
    clients: Mapping[str, Agent], bench: Bench, service: ServiceView, pod: BenchPod, family: Family
) -> list[Step]:
    """Every client to the NodePort on every node's address.

    Raises:
        LookupError: a node has no address of the family; CFG-005 judges that.
    """
    kinds = [Kind(str(kind), kind, service.node_ports[kind]) for kind in TRANSPORTS]
    targets = {
        f"NodePort of {pod.label} on {node}": agent.addresses.require(family)
        for node, agent in bench.agents.nodes.items()
    }
    return plan(clients, targets, kinds, expect=frozenset({pod.name}))
