"""EndpointSlices and the names of headless Services hold the ready pods, family by family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.readiness import follow_findings, headless_findings, readiness
from helpers.services import endpoint_slices, selected, slice_findings
from helpers.workloads import ServiceView, Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

DNS = ("kube-system", "kube-dns")


def test_svc_005_headless_names_are_the_ready_pods(
    family: Family, cluster: Cluster, agents: AgentPool, workloads: Workloads
) -> None:
    """The name of a headless dual-stack Service resolves to the ready pods' addresses.

    Given: a headless dual-stack Service that selects a ready pod and one that is not ready.
    Then: A or AAAA of its name, over UDP and TCP, is exactly the ready pod's address of this
        family, asked from a pod on every node.
    Source: KEP-563; Kubernetes DNS specification 2.4.1 (headless Services).
    """
    demand_none(headless_findings(readiness(cluster.state, workloads, agents), family))


def test_svc_006_endpoint_slices_follow_readiness(
    family: Family, cluster: Cluster, agents: AgentPool, workloads: Workloads
) -> None:
    """EndpointSlices of a family hold exactly the ready pods' addresses, and both families flip.

    Given: a dual-stack Service that selects two ready pods, one of which loses its readiness and
        gets it back.
    Then: within 10 s of each change the slices of this family hold exactly the ready pods'
        addresses of it, none of the other family, and they follow within 2 s of the other's.
    Source: KEP-752 (EndpointSlice), KEP-563 (one set of slices per family), KEP-580.
    """
    demand_none(follow_findings(readiness(cluster.state, workloads, agents), family))


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
    demand_none(
        slice_findings("/".join(DNS), service.families, slices, selected(kube, service), family)
    )
