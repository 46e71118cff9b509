"""What is not promised by any specification, but must not change unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.kube import Kube
from helpers.matrix import Cell
from helpers.model import Protocol
from helpers.plan import Step, demand_reached
from helpers.probes import Probe
from helpers.service_records import default_findings, records
from helpers.services import clients_inside
from helpers.workloads import ServiceView, Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_svc_018_the_clusters_own_services(
    cluster: Cluster, kube: Kube, agents: AgentPool, workloads: Workloads, evidence: Evidence
) -> None:
    """The API's own Service is single-stack in the primary family, and reachable.

    Given: the Service default/kubernetes, and a new headless Service without selector.
    Then: default/kubernetes is SingleStack in the cluster's primary family and accepts TCP
        connections from a pod on every node and from every node. Written down, not judged:
        families of the DNS Service, policy and families that the headless Service was given, and
        families in the old Endpoints object of a dual-stack Service.
    Source: KEP-2438 (provisional); KEP-563; Kubernetes docs "IPv4/IPv6 dual-stack".
    """
    found = kube.get("v1", "Service", "kubernetes", "default")
    assert found is not None, "there is no Service default/kubernetes: the API server makes it"
    service, primary = ServiceView.from_api(found), cluster.spec.primary
    evidence.attach("records.json", records(kube, workloads), always=True)
    demand_none(default_findings(service, primary))
    require_node_pairs(cluster.state, agents, primary)
    port = service.ports["https"]
    target = service.cluster_ips.require(primary)
    steps = [
        Step(
            agent,
            Cell(label, "default/kubernetes", primary, "tcp"),
            Probe(Protocol.TCP, target, port, connect_only=True),
        )
        for label, agent in clients_inside(agents).items()
    ]
    demand_reached(steps, "pods that use the API's Service cannot work on these nodes")
