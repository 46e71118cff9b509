"""Whether the addresses that the API shows for pods are what dual stack promises.

Pure judgements over views of one moment. "Live" leaves out pods that are going or gone: their
address may be another pod's already, rightly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Final

from helpers.calico import Block, IPPool
from helpers.findings import listed
from helpers.model import Family, IPAddress, IPNetwork
from helpers.views import NodeView, PodView

# podIPs are sorted by kubelet from 1.21 on (kubernetes#97979); before it is the CNI's order,
# which for Calico's IPAM is IPv4 first.
SORTED_SINCE: Final = 21
# status.hostIPs: beta and on by default in 1.29 (KEP-2681).
HOST_IPS_SINCE: Final = 29
POD_IPS_ANNOTATION: Final = "cni.projectcalico.org/podIPs"


def live(pods: Iterable[PodView]) -> list[PodView]:
    """Pods that hold an address now: not being deleted, not ended."""
    return [
        pod
        for pod in pods
        if pod.pod_ips and not pod.deleting and pod.phase in ("Pending", "Running")
    ]


def on_pod_network(pods: Iterable[PodView]) -> list[PodView]:
    """Live pods with addresses of their own (hostNetwork pods have their node's)."""
    return [pod for pod in live(pods) if not pod.host_network]


def primary_findings(pods: Iterable[PodView]) -> list[str]:
    """PODIP-001: ``podIP`` is the first of ``podIPs`` (KEP-563, "Default Pod IP")."""
    return [
        f"pod {pod.label} on {pod.node}: status.podIP is {pod.pod_ip}, but status.podIPs lists "
        f"{listed(pod.pod_ips)}: readers of the old field and of the new one talk to different "
        "addresses; the API server or a webhook that writes pod status is at fault"
        for pod in pods
        if (pod.pod_ip or pod.pod_ips) and pod.pod_ip != next(iter(pod.pod_ips), None)
    ]


def order_findings(
    pods: Iterable[PodView], nodes: Iterable[NodeView], *, primary: Family, minor: int
) -> list[str]:
    """PODIP-003: podIPs begin with the primary family, of the pod's node and of the cluster.

    Pods and nodes with one family only have no order; other requirements judge those.
    """
    of_node = {node.name: node.internal_ips.families for node in nodes}
    found = []
    for pod in live(pods):
        families = pod.addresses.families
        if len(set(families)) < 2:
            continue
        if minor < SORTED_SINCE:
            wanted, because = Family.IPV4, f"Calico's CNI order counts on Kubernetes 1.{minor}"
        else:
            wanted, because = primary, f"the cluster is {primary.kubernetes}-primary"
        if families[0] is wanted:
            continue
        node = of_node.get(pod.node or "", ())
        cause = (
            f"node {pod.node} registers {node[0].kubernetes} first: correct the order of its "
            "kubelet's --node-ip"
            if node and node[0] is not wanted
            else f"node {pod.node} itself has {wanted.kubernetes} first: its kubelet does not "
            "sort podIPs by its own addresses"
        )
        found.append(
            f"pod {pod.label} lists podIPs {listed(pod.pod_ips)}, expected "
            f"{wanted.kubernetes} first ({because}); {cause}"
        )
    return found


def pool_findings(
    pods: Iterable[PodView],
    family: Family,
    pools: Sequence[IPPool],
    cluster_cidr: IPNetwork | None,
) -> list[str]:
    """PODIP-004: each pod address lies in a pool and in the cluster CIDR of its family.

    A disabled pool counts: it gives out nothing new, and pods keep what they have from it.
    """
    cidrs = [pool.cidr for pool in pools if pool.family is family]
    found = []
    for pod in on_pod_network(pods):
        for address in _of_family(pod, family):
            where = f"pod {pod.label} on {pod.node} has {address}"
            if not any(address in cidr for cidr in cidrs):
                found.append(
                    f"{where}, which is in no Calico IPPool (those of {family.kubernetes}: "
                    f"{listed(cidrs)}): recreate the pool it came from, or the pod"
                )
            elif cluster_cidr is None or address not in cluster_cidr:
                found.append(
                    f"{where}, outside of the cluster's {family.kubernetes} CIDR "
                    f"{cluster_cidr or '(none declared)'}: kube-proxy takes such pods for "
                    "strangers and masquerades them; set the IPPool's cidr to the cluster CIDR"
                )
    return found


def sharing_findings(pods: Iterable[PodView], family: Family) -> list[str]:
    """PODIP-005: no two live pods have the same address."""
    holders: dict[IPAddress, list[PodView]] = defaultdict(list)
    for pod in on_pod_network(pods):
        for address in _of_family(pod, family):
            holders[address].append(pod)
    return [
        f"{address} is the address of {len(those)} live pods: "
        f"{listed(f'{pod.label} on {pod.node}' for pod in those)}; delete all but one of them, "
        "and look for addresses pinned with cni.projectcalico.org/ipAddrsNoIpam"
        for address, those in holders.items()
        if len(those) > 1
    ]


def host_network_findings(
    pods: Iterable[PodView], nodes: Iterable[NodeView], *, minor: int
) -> list[str]:
    """PODIP-009: hostNetwork pods have their node's InternalIPs, one of each family, in order.

    ``hostIPs`` of every pod likewise, where the API has the field.
    """
    of_node = {node.name: node.internal_ips.all for node in nodes}
    found = []
    for pod in live(pods):
        expected = of_node.get(pod.node or "", ())
        if pod.host_network:
            found += _same_as_node(pod, "podIPs", pod.pod_ips, expected)
        if minor >= HOST_IPS_SINCE:
            found += _same_as_node(pod, "hostIPs", pod.host_ips, expected)
            if pod.host_ip != next(iter(pod.host_ips), None):
                found.append(
                    f"pod {pod.label} on {pod.node}: status.hostIP is {pod.host_ip}, but "
                    f"hostIPs lists {listed(pod.host_ips)}"
                )
    return found


def _same_as_node(
    pod: PodView, name: str, values: Sequence[str], expected: Sequence[IPAddress]
) -> list[str]:
    seen = tuple(ip_address(value) for value in values)
    where = f"pod {pod.label} on {pod.node}"
    if seen != tuple(expected):
        return [
            f"{where}: status.{name} is {listed(seen)}, but the node's InternalIPs are "
            f"{listed(expected)}"
        ]
    families = sorted(Family.of(address) for address in seen)
    if families != [Family.IPV4, Family.IPV6]:
        return [
            f"{where}: status.{name} is {listed(seen)}, not one IPv4 and one IPv6 address: give "
            f"the kubelet of {pod.node} --node-ip with one address of each family"
        ]
    return []


def allocation_findings(
    pods: Iterable[PodView],
    family: Family,
    blocks: Sequence[Block],
    *,
    strict_affinity: bool,
) -> list[str]:
    """PODIP-010: each address has exactly one allocation, of this pod, in a block of its node.

    Without strict affinity a node may borrow from another's block (Calico design/ipam).
    """
    found = []
    for pod in on_pod_network(pods):
        found += _annotation_findings(pod, family)
        for address in _of_family(pod, family):
            found += _allocation_findings(pod, address, blocks, strict_affinity)
    return found


def _allocation_findings(
    pod: PodView, address: IPAddress, blocks: Sequence[Block], strict_affinity: bool
) -> list[str]:
    where = f"pod {pod.label} on {pod.node} has {address}"
    entries = [(b, a) for b in blocks for a in b.allocations if a.address == address]
    if len(entries) != 1:
        return [
            f"{where}, with {len(entries)} allocations in Calico's IPAM instead of 1: another pod "
            "can be given the same address; run `calicoctl ipam check` and recreate the pod"
        ]
    block, allocation = entries[0]
    found = []
    if allocation.pod != pod.label:
        found.append(f"{where}, which IPAM has given to {allocation.pod or allocation.handle}")
    if allocation.node != pod.node:
        found.append(f"{where}, which IPAM has given to node {allocation.node}")
    if block.node != pod.node and strict_affinity:
        found.append(
            f"{where} from block {block.cidr} of node {block.node or '(none)'}, although IPAM is "
            "set to strictAffinity: routes to the block lead to the other node"
        )
    return found


def _annotation_findings(pod: PodView, family: Family) -> list[str]:
    """Felix takes a pod's addresses from the annotation while the status is not yet written."""
    text = pod.annotations.get(POD_IPS_ANNOTATION, "")
    interfaces = [ip_interface(part) for part in text.split(",") if part]
    noted = {i.ip for i in interfaces if i.version == family.version}
    if noted == set(_of_family(pod, family)) and all(
        i.network.prefixlen == i.max_prefixlen for i in interfaces
    ):
        return []
    return [
        f"pod {pod.label} on {pod.node}: annotation {POD_IPS_ANNOTATION} is {text or 'absent'}, "
        f"but status.podIPs are {listed(pod.pod_ips)}"
    ]


def _of_family(pod: PodView, family: Family) -> list[IPAddress]:
    return [address for address in pod.addresses.all if Family.of(address) is family]


def stable(before: Iterable[PodView], after: Iterable[PodView]) -> list[PodView]:
    """Pods that were there, with the same addresses, before and after something else was read."""
    then: Mapping[str, PodView] = {pod.uid: pod for pod in live(before)}
    return [pod for pod in live(after) if pod.uid in then and then[pod.uid].pod_ips == pod.pod_ips]
