"""Judgements of pod addresses: each faulty input of the catalogue goes red, with its sentence."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from helpers import addressing
from helpers.addressing import POD_IPS_ANNOTATION
from helpers.calico import Allocation, Block, IPPool
from helpers.findings import demand_none, told
from helpers.model import FAMILIES, DualAddresses, Family
from helpers.views import NodeView, PodView

V4, V6 = "10.244.1.5", "fd00:10:244:1::5"
NODE = ("10.243.0.3", "fd00:10:243::3")
CLUSTER_CIDR = {
    Family.IPV4: ip_network("10.244.0.0/16"),
    Family.IPV6: ip_network("fd00:10:244::/56"),
}


def pod(name: str = "web", *, ips: tuple[str, ...] = (V4, V6), **changes: object) -> PodView:
    view = PodView(
        namespace="shop",
        name=name,
        uid=f"uid-{name}",
        node="worker",
        phase="Running",
        ready=True,
        deleting=False,
        host_network=False,
        pod_ip=ips[0] if ips else None,
        pod_ips=ips,
        host_ip=NODE[0],
        host_ips=NODE,
        labels={},
        annotations={
            POD_IPS_ANNOTATION: ",".join(f"{ip}/{ip_address(ip).max_prefixlen}" for ip in ips)
        },
        waiting=None,
    )
    return replace(view, **changes)


def node(name: str = "worker", ips: tuple[str, ...] = NODE) -> NodeView:
    return NodeView(
        name=name,
        internal_ips=DualAddresses.parse(ips),
        pod_cidr=None,
        pod_cidrs=(),
        ready=True,
        schedulable=True,
        control_plane=False,
        kernel="6.12.0",
        labels={},
        annotations={},
    )


def pool(cidr: str, *, disabled: bool = False) -> IPPool:
    spec = {"cidr": cidr, "disabled": disabled}
    return IPPool.from_api({"metadata": {"name": f"pool-{cidr}"}, "spec": spec})


POOLS = (pool("10.244.0.0/16"), pool("fd00:10:244::/56"))


def test_a_healthy_pod_gives_no_findings() -> None:
    pods, nodes = [pod(), pod("host", ips=NODE, host_network=True)], [node()]

    assert addressing.primary_findings(pods) == []
    assert addressing.order_findings(pods, nodes, primary=Family.IPV4, minor=36) == []
    assert addressing.host_network_findings(pods, nodes, minor=36) == []
    for family in FAMILIES:
        assert addressing.pool_findings(pods, family, POOLS, CLUSTER_CIDR[family]) == []
        assert addressing.sharing_findings(pods, family) == []


def test_podip_001_swapped_pod_ips_are_found() -> None:
    (finding,) = addressing.primary_findings([pod(pod_ip=V6)])

    assert f"status.podIP is {V6}, but status.podIPs lists {V4}, {V6}" in finding
    assert "shop/web on worker" in finding


@pytest.mark.parametrize("changes", [{"pod_ip": None}, {"pod_ips": ()}])
def test_podip_001_one_field_without_the_other_is_found(changes: dict[str, object]) -> None:
    assert addressing.primary_findings([pod(**changes)])


def test_podip_001_pods_without_an_address_are_left_out() -> None:
    assert addressing.primary_findings([pod(ips=())]) == []


def test_podip_003_a_node_that_registers_ipv6_first_is_named() -> None:
    (finding,) = addressing.order_findings(
        [pod(ips=(V6, V4))], [node(ips=NODE[::-1])], primary=Family.IPV4, minor=36
    )

    assert "expected IPv4 first (the cluster is IPv4-primary)" in finding
    assert (
        "node worker registers IPv6 first: correct the order of its kubelet's --node-ip" in finding
    )


def test_podip_003_a_kubelet_that_does_not_sort_is_named() -> None:
    (finding,) = addressing.order_findings(
        [pod(ips=(V6, V4))], [node()], primary=Family.IPV4, minor=36
    )

    assert "its kubelet does not sort podIPs" in finding


def test_podip_003_before_1_21_the_order_is_calicos() -> None:
    swapped = [pod(ips=(V6, V4))]
    nodes = [node(ips=NODE[::-1])]

    assert addressing.order_findings([pod()], nodes, primary=Family.IPV6, minor=20) == []
    assert "Calico's CNI order" in told(
        addressing.order_findings(swapped, nodes, primary=Family.IPV6, minor=20)
    )
    assert addressing.order_findings(swapped, nodes, primary=Family.IPV6, minor=21) == []


def test_podip_004_a_pool_outside_of_the_cluster_cidr_is_found() -> None:
    stranger = pod(ips=(V4, "fd12:3456:789a::5"))
    pools = (POOLS[0], pool("fd12:3456:789a::/48"))

    (finding,) = addressing.pool_findings([stranger], Family.IPV6, pools, CLUSTER_CIDR[Family.IPV6])

    assert "fd12:3456:789a::5, outside of the cluster's IPv6 CIDR fd00:10:244::/56" in finding
    assert "set the IPPool's cidr" in finding
    assert addressing.pool_findings([stranger], Family.IPV4, pools, CLUSTER_CIDR[Family.IPV4]) == []


def test_podip_004_an_address_of_a_deleted_pool_is_found() -> None:
    (finding,) = addressing.pool_findings([pod()], Family.IPV6, POOLS[:1], None)

    assert "is in no Calico IPPool (those of IPv6: none)" in finding


def test_podip_004_running_pods_keep_their_address_of_a_disabled_pool() -> None:
    pools = (POOLS[0], pool("fd00:10:244::/56", disabled=True))

    assert addressing.pool_findings([pod()], Family.IPV6, pools, CLUSTER_CIDR[Family.IPV6]) == []


def test_podip_004_no_declared_cidr_is_no_pass() -> None:
    assert addressing.pool_findings([pod()], Family.IPV6, POOLS, None)


def test_podip_005_shared_addresses_are_found_in_their_family_only() -> None:
    pods = [pod("a"), pod("b", ips=("10.244.1.6", V6))]

    (finding,) = addressing.sharing_findings(pods, Family.IPV6)

    assert f"{V6} is the address of 2 live pods: shop/a on worker, shop/b on worker" in finding
    assert addressing.sharing_findings(pods, Family.IPV4) == []


@pytest.mark.parametrize(
    "changes", [{"deleting": True}, {"phase": "Succeeded"}, {"host_network": True}]
)
def test_podip_005_pods_without_an_address_of_their_own_share_nothing(
    changes: dict[str, object],
) -> None:
    assert addressing.sharing_findings([pod("a"), pod("b", **changes)], Family.IPV4) == []


def test_podip_009_a_single_stack_node_is_found() -> None:
    single = pod(ips=NODE[:1], host_network=True, host_ips=NODE[:1])

    found = addressing.host_network_findings([single], [node(ips=NODE[:1])], minor=36)

    assert len(found) == 2  # podIPs and hostIPs
    assert "status.podIPs is 10.243.0.3, not one IPv4 and one IPv6 address" in found[0]
    assert "--node-ip with one address of each family" in found[0]


def test_podip_009_the_nodes_order_counts() -> None:
    (finding,) = addressing.host_network_findings(
        [pod(ips=NODE[::-1], host_network=True)], [node()], minor=36
    )

    assert "but the node's InternalIPs are 10.243.0.3, fd00:10:243::3" in finding


def test_podip_009_host_ip_is_the_first_of_host_ips() -> None:
    (finding,) = addressing.host_network_findings([pod(host_ip=NODE[1])], [node()], minor=36)

    assert "status.hostIP is fd00:10:243::3" in finding


def test_podip_009_there_are_no_host_ips_before_1_29() -> None:
    old = pod(host_ips=(), host_ip=NODE[0])

    assert addressing.host_network_findings([old], [node()], minor=28) == []
    assert addressing.host_network_findings([old], [node()], minor=29)


def block(*allocations: Allocation, node: str | None = "worker") -> Block:
    return Block(ip_network("fd00:10:244:1::/122"), node, allocations)


OURS = Allocation(ip_address(V6), "k8s-pod-network.1", "shop/web", "worker")


def allocation_findings(*blocks: Block, strict: bool = False, **changes: object) -> list[str]:
    return addressing.allocation_findings(
        [pod(**changes)], Family.IPV6, blocks, strict_affinity=strict
    )


def test_podip_010_one_allocation_in_the_nodes_block_is_right() -> None:
    assert allocation_findings(block(OURS)) == []


def test_podip_010_a_cleared_ordinal_is_found() -> None:
    (finding,) = allocation_findings(block())

    assert "with 0 allocations in Calico's IPAM instead of 1" in finding
    assert "calicoctl ipam check" in finding


def test_podip_010_two_allocations_are_found() -> None:
    assert "with 2 allocations" in told(allocation_findings(block(OURS), block(OURS)))


def test_podip_010_another_owner_is_found() -> None:
    theirs = replace(OURS, pod="shop/other", node="worker2")

    found = allocation_findings(block(theirs))

    assert "which IPAM has given to shop/other" in found[0]
    assert "which IPAM has given to node worker2" in found[1]


def test_podip_010_borrowing_is_refused_by_strict_affinity_only() -> None:
    borrowed = block(OURS, node="worker2")

    assert allocation_findings(borrowed) == []
    assert "strictAffinity" in told(allocation_findings(borrowed, strict=True))


@pytest.mark.parametrize("text", ["", f"{V4}/32", f"{V4}/32,{V6}/64", f"{V4}/32,{V6}9/128"])
def test_podip_010_the_annotation_must_agree(text: str) -> None:
    (finding,) = allocation_findings(block(OURS), annotations={POD_IPS_ANNOTATION: text})

    assert f"annotation {POD_IPS_ANNOTATION} is {text or 'absent'}" in finding


def test_stable_leaves_out_what_changed_meanwhile() -> None:
    before = [pod("stays"), pod("goes"), pod("changes")]
    after = [pod("stays"), pod("changes", ips=(V4,)), pod("comes")]

    assert [p.name for p in addressing.stable(before, after)] == ["stays"]


def test_many_findings_are_folded() -> None:
    text = told([f"finding {n}" for n in range(40)])

    assert text.startswith("40 findings\n- finding 0\n")
    assert text.endswith("... and 28 more like these")


def test_findings_fail_as_their_own_sentences() -> None:
    demand_none([])
    with pytest.raises(AssertionError, match=r"^1 finding\n- pods are odd$"):
        demand_none(["pods are odd"])
