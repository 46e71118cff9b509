"""Whether the cluster's address ranges are dual-stack (CFG-003, CFG-004, CFG-006, CFG-015).

Pure judgements over what the components were started with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import TYPE_CHECKING, Final

from helpers.calico import IPPool
from helpers.findings import listed
from helpers.kube_errors import ApiError
from helpers.model import Family, IPNetwork
from helpers.views import NodeView

if TYPE_CHECKING:
    from helpers.facts import Facts
    from helpers.kube import Kube, Object

MAX_DIFFERENCE: Final = 16  # bits; kubernetes pkg/controller/nodeipam: clusterSubnetMaxDiff
DEFAULT_NODE_MASK: Final = {Family.IPV4: 24, Family.IPV6: 64}
SERVICE_CIDR_API_SINCE: Final = 33  # KEP-1880, generally available
MASK_FLAGS_SINCE: Final = 17  # kubernetes#79993; 1.16 has one mask for both families

Flags = Mapping[str, Sequence[str]]


def of_family(networks: Iterable[IPNetwork], family: Family) -> list[IPNetwork]:
    return [network for network in networks if Family.of(network) is family]


def node_mask(flags: Flags, family: Family) -> int:
    """Prefix length that kube-controller-manager gives each node in a family."""
    for name in (f"node-cidr-mask-size-{family}", "node-cidr-mask-size"):
        if flags.get(name):
            return int(flags[name][0])
    return DEFAULT_NODE_MASK[family]


def cluster_cidr_findings(
    cidrs: Sequence[IPNetwork], family: Family, *, mask: int, nodes: int
) -> list[str]:
    """CFG-003: one cluster CIDR of the family, with room for a block per node.

    Args:
        cidrs: ``--cluster-cidr`` of kube-controller-manager.
        mask: prefix length of a node's block.
        nodes: how many nodes there are.
    """
    mine = of_family(cidrs, family)
    if len(mine) != 1:
        return [
            f"kube-controller-manager has {len(mine)} {family.kubernetes} cluster CIDRs "
            f"(--cluster-cidr={','.join(map(str, cidrs)) or '(none)'}), must be exactly 1: give "
            "it one CIDR of each family, e.g. 10.244.0.0/16,fd00:10:244::/56"
        ]
    (cidr,) = mine
    bits = mask - cidr.prefixlen
    flag = f"--node-cidr-mask-size-{family}"
    if bits < 0:
        return [
            f"{flag}={mask} is shorter than the cluster CIDR {cidr}: kube-controller-manager "
            f"cannot cut a block for a node out of it; set it to {cidr.prefixlen} or more"
        ]
    found = []
    # Only IPv6 has this limit: the bitmap of an IPv4 range cannot outgrow memory.
    if family is Family.IPV6 and bits > MAX_DIFFERENCE:
        found.append(
            f"{flag}={mask} is {bits} bits longer than the cluster CIDR {cidr}, at most "
            f"{MAX_DIFFERENCE} are allowed: kube-controller-manager does not start like that; use "
            f"a cluster CIDR of /{mask - MAX_DIFFERENCE} or a node mask of "
            f"{cidr.prefixlen + MAX_DIFFERENCE}"
        )
    if 2**bits < nodes:
        found.append(
            f"the cluster CIDR {cidr} has room for {2**bits} blocks of /{mask}, but there are "
            f"{nodes} nodes: use a larger CIDR or a longer {flag}"
        )
    return found


def service_refusal(kube: Kube, family: Family) -> str | None:
    """What the API says to a Service of one family only, None when it takes it (dry run)."""
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"dsc-single-{family}", "namespace": "default"},
        "spec": {
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": [family.kubernetes],
            "ports": [{"port": 80}],
        },
    }
    try:
        kube.create(service, dry_run=True)
    except ApiError as error:
        if error.status != 422:
            raise
        return error.message
    return None


@dataclass(frozen=True, slots=True)
class ServiceRanges:
    """Where Services get addresses from, as three places say it.

    Attributes:
        apiserver: ``--service-cluster-ip-range``; None when its flags cannot be seen.
        controller_manager: the same flag; None when it does not have it.
        service_cidr: of the ServiceCIDR ``kubernetes``; None before Kubernetes 1.33.
    """

    apiserver: tuple[IPNetwork, ...] | None
    controller_manager: tuple[IPNetwork, ...] | None
    service_cidr: tuple[IPNetwork, ...] | None

    @property
    def places(self) -> dict[str, tuple[IPNetwork, ...]]:
        """What can be seen, the leading place first."""
        named = {
            "kube-apiserver --service-cluster-ip-range": self.apiserver,
            'ServiceCIDR "kubernetes"': self.service_cidr,
            "kube-controller-manager --service-cluster-ip-range": self.controller_manager,
        }
        return {place: cidrs for place, cidrs in named.items() if cidrs is not None}


def service_ranges(kube: Kube, facts: Facts) -> ServiceRanges:
    """The Service ranges as flags and API show them."""
    flag = "service-cluster-ip-range"
    service_cidr = None
    if facts.minor >= SERVICE_CIDR_API_SINCE:
        found = kube.get("networking.k8s.io/v1", "ServiceCIDR", "kubernetes") or {}
        service_cidr = tuple(ip_network(c) for c in found.get("spec", {}).get("cidrs", []))
    return ServiceRanges(
        apiserver=facts.service_cidrs if facts.arguments("kube-apiserver") else None,
        controller_manager=facts.cidrs("kube-controller-manager", flag) or None,
        service_cidr=service_cidr,
    )


def service_range_findings(
    family: Family, ranges: ServiceRanges, *, refusal: str | None
) -> list[str]:
    """CFG-004: a Service range of the family, the same everywhere.

    Args:
        refusal: what the API said to a Service of this family only (dry run), None: accepted.
    """
    name = family.kubernetes
    found = []
    for place, cidrs in ranges.places.items():
        count = len(of_family(cidrs, family))
        if count != 1:
            found.append(
                f"{place} has {count} {name} ranges ({listed(cidrs)}), must be exactly 1: {name} "
                "Services cannot be created (partially dual-stack cluster); set serviceSubnet to "
                "one CIDR of each family"
            )
    if not found and ranges.places:
        (leader, reference), *others = ranges.places.items()
        found = [
            f"{place} lists {listed(cidrs)}, but {leader} {listed(reference)}: the same ranges in "
            "the same order belong into both"
            for place, cidrs in others
            if cidrs != reference
        ]
    if refusal is not None:
        found.append(f"the API server refuses a Service of {name} only: {refusal}")
    return found


def pod_cidr_findings(
    nodes: Sequence[NodeView], family: Family, cluster_cidrs: Sequence[IPNetwork]
) -> list[str]:
    """CFG-006: each node has one podCIDR of the family, of its own, inside the cluster CIDR."""
    inside = of_family(cluster_cidrs, family)
    taken: dict[IPNetwork, str] = {}
    found = []
    for node in nodes:
        mine = of_family(node.pod_cidrs, family)
        if len(mine) != 1:
            found.append(
                f"node {node.name} has {len(mine)} {family.kubernetes} podCIDRs "
                f"({listed(node.pod_cidrs)}), must be exactly 1: kube-controller-manager's "
                "--cluster-cidr needs one CIDR of each family before the node joins"
            )
        first = str(node.pod_cidrs[0]) if node.pod_cidrs else None
        if node.pod_cidr != first:
            found.append(
                f"node {node.name}: spec.podCIDR is {node.pod_cidr}, but podCIDRs begins with "
                f"{first}: readers of the old field see another network"
            )
        for cidr in mine:
            if not any(_within(cidr, whole) for whole in inside):
                found.append(
                    f"node {node.name} has the podCIDR {cidr}, which is in no "
                    f"{family.kubernetes} cluster CIDR of kube-controller-manager "
                    f"({listed(inside)}): correct --cluster-cidr"
                )
            other = next((n for c, n in taken.items() if c.overlaps(cidr)), None)
            if other is not None:
                found.append(f"nodes {other} and {node.name} share addresses in podCIDR {cidr}")
            taken[cidr] = node.name
    return found


def pool_cover_findings(
    pools: Sequence[IPPool], family: Family, cluster_cidr: IPNetwork | None
) -> list[str]:
    """CFG-015: the pools that pods get addresses from are, together, the cluster CIDR.

    Args:
        pools: enabled pools of the family that workloads may use.
    """
    union = _collapsed(pool.cidr for pool in pools)
    if cluster_cidr is None:
        return [
            f"the cluster declares no {family.kubernetes} pod CIDR, but its pools hold "
            f"{listed(union)}: kube-proxy takes those pods for strangers; set podSubnet and "
            "--cluster-cidr"
        ]
    if union == [cluster_cidr]:
        return []
    outside = [pool for pool in pools if not _within(pool.cidr, cluster_cidr)]
    return [
        f"{family.kubernetes} IPPool {pool.name} {pool.cidr} is not the cluster's "
        f"{family.kubernetes} CIDR {cluster_cidr}{_why_outside(pool)}; kube-proxy treats these "
        "pods as off-cluster and SNATs them"
        for pool in outside
    ] or [
        f"the enabled {family.kubernetes} IPPools hold {listed(union)}, which is not the whole "
        f"cluster CIDR {cluster_cidr}: addresses of pods and podCIDRs of nodes come from "
        "different networks"
    ]


def _why_outside(pool: IPPool) -> str:
    """Calico's own pool, when it was given no network (node: GenerateIPv6ULAPrefix)."""
    ula = IPv6Network("fc00::/7")
    made_up = pool.name == "default-ipv6-ippool" and pool.cidr.prefixlen == 48
    if made_up and _within(pool.cidr, ula):
        return (
            " (a random ULA /48 means CALICO_IPV6POOL_CIDR was unset and no kubeadm-config was "
            "found)"
        )
    return ""


def _within(small: IPNetwork, large: IPNetwork) -> bool:
    """``subnet_of`` that answers False across families instead of raising."""
    if isinstance(small, IPv4Network) and isinstance(large, IPv4Network):
        return small.subnet_of(large)
    if isinstance(small, IPv6Network) and isinstance(large, IPv6Network):
        return small.subnet_of(large)
    return False


def _collapsed(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    return list(collapse_addresses(networks))  # type: ignore[type-var]  # all of one family
