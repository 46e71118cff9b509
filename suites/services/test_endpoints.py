"""EndpointSlices and the names of headless Services hold the ready pods, family by family."""

from __future__ import annotations

import pytest

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none, told
from helpers.kube import Kube
from helpers.model import Family, Protocol
from helpers.names import (
    ANSWERED_WITHIN,
    Question,
    answers_become,
    holding,
    name_findings,
    resolver_of,
)
from helpers.readiness import READINESS_WITHIN, flip, flip_findings, gated_pods
from helpers.services import endpoint_slices, pod_addresses, selected, slice_findings
from helpers.waiting import eventually
from helpers.workloads import ServiceView, Workloads

DNS = ("kube-system", "kube-dns")


def test_svc_005_headless_names_are_the_ready_pods(
    family: Family, kube: Kube, agents: AgentPool, workloads: Workloads
) -> None:
    """The name of a headless dual-stack Service resolves to the ready pods' addresses.

    Given: a headless dual-stack Service that selects a ready pod and one that is not ready.
    Then: A or AAAA of its name, over UDP and TCP, is exactly the ready pod's address of this
        family, asked from a pod on every node.
    Source: KEP-563; Kubernetes DNS specification 2.4.1 (headless Services).
    """
    gated_pods(workloads, list(agents.pods)[:2], ready=[True, False])
    service = workloads.service(clusterIP="None")
    clients = {f"pod on {node}": agent for node, agent in agents.pods.items()}
    name = resolver_of(next(iter(clients.values()))).service(service.namespace, service.name)
    addresses = pod_addresses(selected(kube, service), family)
    assert len(addresses) == 1, f"the ready pod has {len(addresses)} {family} addresses"
    wanted = {
        Question(client, name, family.record, transport): holding(addresses)
        for client in clients
        for transport in (Protocol.UDP, Protocol.TCP)
    }
    findings = name_findings(wanted, answers_become(clients, wanted, ANSWERED_WITHIN))
    demand_none(findings)


def test_svc_006_endpoint_slices_follow_readiness(
    family: Family, kube: Kube, agents: AgentPool, workloads: Workloads
) -> None:
    """EndpointSlices of a family hold exactly the ready pods' addresses, and both families flip.

    Given: a dual-stack Service that selects two pods, whose readiness the test decides; and the
        cluster's own DNS Service.
    Then: slices of this family hold the ready pods' addresses and none of the other family.
        When one pod loses its readiness, its address stops being ready within 10 s, and in the
        other family at the same time; and likewise when it becomes ready again.
    Source: KEP-752 (EndpointSlice), KEP-563 (one set of slices per family), KEP-580.
    """
    first, _ = gated_pods(workloads, list(agents.pods)[:2], ready=[True, True])
    service = workloads.service()
    label = f"{service.namespace}/{service.name}"

    def findings() -> list[str]:
        slices = endpoint_slices(kube, service.namespace, service.name)
        return slice_findings(label, service.families, slices, selected(kube, service), family)

    def no_findings(found: list[str]) -> bool:
        return not found

    eventually(
        findings,
        no_findings,
        within=READINESS_WITHIN,
        every=0.3,
        describe=told,
        what=f"EndpointSlices of {label} equal the ready pods",
    )
    for ready in (False, True):
        found = flip_findings(flip(kube, service, first, ready=ready), family)
        demand_none(found)
        left = findings()
        demand_none(left)


def test_svc_006_slices_of_the_dns_service(family: Family, kube: Kube) -> None:
    """EndpointSlices of the cluster's DNS Service hold exactly its ready pods' addresses.

    Given: the Service kube-system/kube-dns as it is.
    Then: slices of this family, whoever made them, hold its ready pods' addresses of this family,
        or there are none when the Service does not have the family.
    Source: KEP-752, KEP-563.
    """
    found = kube.get("v1", "Service", DNS[1], DNS[0])
    if found is None:
        pytest.skip(f"there is no Service {'/'.join(DNS)}")
    service = ServiceView.from_api(found)
    slices = endpoint_slices(kube, *DNS)
    findings = slice_findings(
        "/".join(DNS), service.families, slices, selected(kube, service), family
    )
    demand_none(findings)
