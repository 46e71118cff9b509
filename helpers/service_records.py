"""SVC-018: what the cluster's own Services look like, written down for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.findings import listed
from helpers.model import Family
from helpers.services import PREFER, SINGLE
from helpers.workloads import ServiceView

if TYPE_CHECKING:
    from helpers.kube import Kube
    from helpers.workloads import Workloads


def default_findings(service: ServiceView, primary: Family) -> list[str]:
    """default/kubernetes is SingleStack in the primary family (KEP-2438 would change that)."""
    found = []
    if service.policy != SINGLE:
        found.append(f"default/kubernetes has ipFamilyPolicy {service.policy}, not {SINGLE}")
    if service.families != (primary,) or service.cluster_ips.families != (primary,):
        found.append(
            f"default/kubernetes has ipFamilies [{listed(f.kubernetes for f in service.families)}] "
            f"and clusterIPs [{listed(service.cluster_ips.all)}], the cluster is declared "
            f"{primary.kubernetes}-primary: compare --service-cluster-ip-range of kube-apiserver"
        )
    return found


def records(kube: Kube, workloads: Workloads) -> dict[str, Any]:
    """Families of Services that nobody promises, as the API has them now."""
    dns = kube.get("v1", "Service", "kube-dns", "kube-system")
    made = workloads.service(policy=None, selector={}, clusterIP="None")
    dual = workloads.service(policy=PREFER)
    endpoints = kube.get("v1", "Endpoints", dual.name, dual.namespace) or {}
    return {
        "kube-system/kube-dns": _families(ServiceView.from_api(dns)) if dns else None,
        "headless without selector": _families(made),
        "Endpoints of a dual-stack Service": [
            address["ip"]
            for subset in endpoints.get("subsets") or []
            for address in subset.get("addresses") or []
        ],
    }


def _families(service: ServiceView) -> dict[str, Any]:
    return {
        "policy": service.policy,
        "families": [family.kubernetes for family in service.families],
        "clusterIPs": [str(address) for address in service.cluster_ips.all],
    }
