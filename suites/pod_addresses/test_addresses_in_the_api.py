"""What the API says of pod addresses: PODIP-001, 003, 004, 005, 009, 010."""

from __future__ import annotations

from clusters.api import Cluster
from helpers import addressing
from helpers.calico import Block
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family


def test_podip_001_pod_ip_is_the_first_of_pod_ips(facts: Facts, kube: Kube) -> None:
    """The old field and the new one name the same address.

    Given: all pods of the cluster, hostNetwork ones included
    Then: status.podIP equals status.podIPs[0] wherever one of them is set
    Source: KEP-563 "Default Pod IP"
    """
    found = addressing.primary_findings(kube.pods())

    demand_none(found)


def test_podip_003_pod_ips_begin_with_the_primary_family(
    cluster: Cluster, facts: Facts, kube: Kube
) -> None:
    """A program that takes the first address talks the cluster's primary family.

    Given: all live pods with addresses of both families
    Then: podIPs begin with the primary family of their node and of the cluster (before
        Kubernetes 1.21: with IPv4, the order of Calico's CNI plugin)
    Source: kubernetes#97979
    """
    found = addressing.order_findings(
        kube.pods(), facts.nodes, primary=cluster.spec.primary, minor=facts.minor
    )

    demand_none(found)


def test_podip_004_pod_addresses_come_from_a_pool_in_the_cluster_cidr(
    facts: Facts, kube: Kube, family: Family
) -> None:
    """What routes, masquerading and policy take for "pods" includes every pod.

    Given: all live pods in the pod network, Calico's IPPools, the declared pod CIDR
    Then: each address lies in an IPPool and in the cluster CIDR of its family
    Source: Calico 3.11's dual-stack announcement (CALICO_IPV6POOL_CIDR equals the cluster CIDR)
    """
    found = addressing.pool_findings(kube.pods(), family, facts.pools, facts.cluster_cidr(family))

    demand_none(found)


def test_podip_005_no_two_pods_share_an_address(facts: Facts, kube: Kube, family: Family) -> None:
    """An address leads to one pod.

    Given: all live pods in the pod network
    Then: no address is that of two of them
    Source: KEP-563, goals
    """
    found = addressing.sharing_findings(kube.pods(), family)

    demand_none(found)


def test_podip_009_host_network_pods_have_the_nodes_addresses(facts: Facts, kube: Kube) -> None:
    """A hostNetwork pod is as dual-stack as its node.

    Given: all live pods and the nodes' InternalIPs
    Then: podIPs of hostNetwork pods, and hostIPs of all pods (Kubernetes 1.29 and later), are one
        IPv4 and one IPv6 address, the node's InternalIPs in their order; hostIP is hostIPs[0]
    Source: Kubernetes docs "IPv4/IPv6 dual-stack"; KEP-2681
    """
    found = addressing.host_network_findings(kube.pods(), facts.nodes, minor=facts.minor)

    demand_none(found)


def test_podip_010_every_address_is_allocated_once_to_its_pod(
    facts: Facts, kube: Kube, family: Family
) -> None:
    """Calico's bookkeeping agrees with the pods, so that no address is given out twice.

    Given: pods that were there before and after the IPAM blocks were read
    Then: each address has exactly one allocation, of this pod on this node, in a block of the
        node (of another one only without strictAffinity); the pod's annotation says the same
    Source: Calico design/ipam/ipam-cni.md
    """
    before = kube.pods()
    blocks = [Block.from_api(block) for block in kube.calico("IPAMBlock")]
    pods = addressing.stable(before, kube.pods())
    strict = any(c["spec"].get("strictAffinity") for c in kube.calico("IPAMConfig"))

    found = addressing.allocation_findings(pods, family, blocks, strict_affinity=strict)

    demand_none(found)
