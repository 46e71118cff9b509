"""Address ranges: CFG-003, CFG-004, CFG-006, CFG-015."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from helpers import address_ranges
from helpers.address_ranges import ServiceRanges
from helpers.calico import IPPool
from helpers.model import FAMILIES, Family, IPNetwork
from helpers.views import NodeView

CLUSTER = (ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/56"))
SERVICES = (ip_network("10.96.0.0/16"), ip_network("fd00:10:96::/112"))
IPV4, IPV6 = FAMILIES


def cluster_cidrs(family: Family, *cidrs: str, mask: int, nodes: int = 3) -> list[str]:
    parsed = [ip_network(cidr) for cidr in cidrs]
    return address_ranges.cluster_cidr_findings(parsed, family, mask=mask, nodes=nodes)


@pytest.mark.parametrize(("family", "mask"), [(IPV4, 24), (IPV6, 64)])
def test_the_recorded_cluster_cidrs_are_good(family: Family, mask: int) -> None:
    assert cluster_cidrs(family, *map(str, CLUSTER), mask=mask) == []


def test_cfg_003_one_ipv4_cidr_is_not_dual_stack() -> None:
    assert cluster_cidrs(IPV4, "10.244.0.0/16", mask=24) == []
    (found,) = cluster_cidrs(IPV6, "10.244.0.0/16", mask=64)
    assert "has 0 IPv6 cluster CIDRs (--cluster-cidr=10.244.0.0/16), must be exactly 1" in found


@pytest.mark.parametrize(
    ("family", "cidrs", "mask", "nodes", "words"),
    [
        (IPV6, ["fc00::/24"], 64, 3, "is 40 bits longer than the cluster CIDR fc00::/24"),
        (IPV6, ["fd00::/56", "fd01::/56"], 64, 3, "has 2 IPv6 cluster CIDRs"),
        (IPV6, ["fd00::/64"], 56, 3, "is shorter than the cluster CIDR fd00::/64"),
        (IPV6, ["fd00::/63"], 64, 3, "has room for 2 blocks of /64, but there are 3 nodes"),
        (IPV4, ["10.0.0.0/23"], 24, 3, "has room for 2 blocks of /24, but there are 3 nodes"),
    ],
)
def test_cfg_003_wrong_sizes_are_named(
    family: Family, cidrs: list[str], mask: int, nodes: int, words: str
) -> None:
    (found,) = cluster_cidrs(family, *cidrs, mask=mask, nodes=nodes)
    assert words in found


def test_only_ipv6_has_the_limit_of_16_bits() -> None:
    assert cluster_cidrs(IPV4, "10.0.0.0/8", mask=26) == []
    assert cluster_cidrs(IPV6, "fd00::/48", mask=64) == []
    assert cluster_cidrs(IPV6, "fd00::/47", mask=64) != []


def test_node_masks_are_those_of_the_flags() -> None:
    flags = {"node-cidr-mask-size-ipv6": ["72"], "node-cidr-mask-size": ["25"]}
    assert address_ranges.node_mask(flags, IPV6) == 72
    assert address_ranges.node_mask(flags, IPV4) == 25
    assert address_ranges.node_mask({}, IPV6) == 64


# -- Services -------------------------------------------------------------------------------------

GOOD = ServiceRanges(SERVICES, SERVICES, SERVICES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_service_ranges_are_good(family: Family) -> None:
    assert address_ranges.service_range_findings(family, GOOD, refusal=None) == []


def test_cfg_004_a_cluster_with_one_service_range() -> None:
    partial = ServiceRanges(SERVICES[:1], SERVICES[:1], SERVICES[:1])
    said = "spec.ipFamilies[0]: Invalid value: IPv6: not configured on this cluster"
    found = address_ranges.service_range_findings(IPV6, partial, refusal=said)
    assert len(found) == 4
    assert found[0].startswith("kube-apiserver --service-cluster-ip-range has 0 IPv6 ranges")
    assert "partially dual-stack cluster" in found[0]
    assert 'ServiceCIDR "kubernetes" has 0' in found[1]
    assert "not configured on this cluster" in found[3]
    assert address_ranges.service_range_findings(IPV4, partial, refusal=None) == []


def test_cfg_004_a_service_cidr_that_was_never_extended() -> None:
    """From 1.33 on the flag alone says nothing: the ServiceCIDR object decides."""
    upgraded = replace(GOOD, service_cidr=SERVICES[:1])
    (found,) = address_ranges.service_range_findings(IPV6, upgraded, refusal=None)
    assert found.startswith('ServiceCIDR "kubernetes" has 0 IPv6 ranges (10.96.0.0/16)')


@pytest.mark.parametrize("family", FAMILIES)
def test_cfg_004_another_order(family: Family) -> None:
    swapped = replace(GOOD, controller_manager=SERVICES[::-1])
    (found,) = address_ranges.service_range_findings(family, swapped, refusal=None)
    assert "kube-controller-manager --service-cluster-ip-range lists fd00:10:96::/112" in found
    assert "the same ranges in the same order" in found


def test_a_managed_control_plane_is_judged_by_what_can_be_seen() -> None:
    managed = ServiceRanges(None, None, SERVICES)
    assert address_ranges.service_range_findings(IPV6, managed, refusal=None) == []


# -- podCIDRs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_pod_cidrs_are_good(nodes: list[NodeView], family: Family) -> None:
    assert address_ranges.pod_cidr_findings(nodes, family, CLUSTER) == []


def test_cfg_006_nodes_with_one_pod_cidr(nodes: list[NodeView]) -> None:
    single = [replace(node, pod_cidrs=node.pod_cidrs[:1]) for node in nodes]
    found = address_ranges.pod_cidr_findings(single, IPV6, CLUSTER)
    assert len(found) == 3
    assert "has 0 IPv6 podCIDRs (10.244.0.0/24), must be exactly 1" in found[0]
    assert address_ranges.pod_cidr_findings(single, IPV4, CLUSTER) == []


def test_cfg_006_a_controller_that_lost_the_ipv6_cidr(nodes: list[NodeView]) -> None:
    """Nodes keep the podCIDRs they have: what is left is one outside of every cluster CIDR."""
    found = address_ranges.pod_cidr_findings(nodes, IPV6, CLUSTER[:1])
    assert len(found) == 3
    assert "in no IPv6 cluster CIDR of kube-controller-manager (none)" in found[0]


def test_cfg_006_shared_and_contradicting_pod_cidrs(nodes: list[NodeView]) -> None:
    twin = replace(nodes[1], pod_cidrs=nodes[0].pod_cidrs, pod_cidr="10.9.9.0/24")
    found = address_ranges.pod_cidr_findings([nodes[0], twin], IPV4, CLUSTER)
    assert any("spec.podCIDR is 10.9.9.0/24, but podCIDRs begins with" in f for f in found)
    assert any(f"nodes {nodes[0].name} and {twin.name} share" in f for f in found)


# -- pools ----------------------------------------------------------------------------------------


def ipv6(pools: list[IPPool], **changes: Any) -> list[IPPool]:
    return [replace(pool, **changes) for pool in pools if pool.family is IPV6]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_pools_are_the_cluster_cidr(pools: list[IPPool], family: Family) -> None:
    mine = [pool for pool in pools if pool.family is family]
    cidr: IPNetwork = CLUSTER[0] if family is IPV4 else CLUSTER[1]
    assert address_ranges.pool_cover_findings(mine, family, cidr) == []


def test_cfg_015_a_random_ula_is_recognized(pools: list[IPPool]) -> None:
    random = ipv6(pools, cidr=ip_network("fd12:3456:789a::/48"))
    (found,) = address_ranges.pool_cover_findings(random, IPV6, CLUSTER[1])
    assert found == (
        "IPv6 IPPool default-ipv6-ippool fd12:3456:789a::/48 is not the cluster's IPv6 CIDR "
        "fd00:10:244::/56 (a random ULA /48 means CALICO_IPV6POOL_CIDR was unset and no "
        "kubeadm-config was found); kube-proxy treats these pods as off-cluster and SNATs them"
    )


def test_cfg_015_a_pool_of_another_name_is_not_called_random(pools: list[IPPool]) -> None:
    other = ipv6(pools, cidr=ip_network("fd12:3456:789a::/48"), name="mine")
    (found,) = address_ranges.pool_cover_findings(other, IPV6, CLUSTER[1])
    assert "random" not in found


def test_cfg_015_halves_make_a_whole_and_one_half_does_not(pools: list[IPPool]) -> None:
    low, high = CLUSTER[1].subnets()
    halves = [*ipv6(pools, cidr=low, name="low"), *ipv6(pools, cidr=high, name="high")]
    assert address_ranges.pool_cover_findings(halves, IPV6, CLUSTER[1]) == []
    (found,) = address_ranges.pool_cover_findings(halves[:1], IPV6, CLUSTER[1])
    assert "hold fd00:10:244::/57, which is not the whole cluster CIDR fd00:10:244::/56" in found


def test_cfg_015_no_declared_pod_cidr(pools: list[IPPool]) -> None:
    (found,) = address_ranges.pool_cover_findings(ipv6(pools), IPV6, None)
    assert "declares no IPv6 pod CIDR" in found
