"""Rules between the fields of a cluster profile, all checked, none stopping at the first.

Each rule names the fields it speaks of, so that a report can leave out rules about fields that
are already known to be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import combinations
from typing import TYPE_CHECKING

from clusters.spec_types import Dataplane, Encapsulation, Kernel, ProxyMode, Role
from helpers.model import FAMILIES, Family, IPNetwork

if TYPE_CHECKING:
    from clusters.spec import ClusterSpec

# kube-controller-manager: clusterSubnetMaxDiff in cidr_set.go (IPv6); kubeadm:
# PodSubnetNodeMaskMaxDiff in constants.go (both families). An uncompressed bitmap is the reason.
MASK_MAX_DIFFERENCE = 16
# Bits of addresses in a service range: kubeadm's MaximumBitsForServiceSubnet and
# MinimumAddressesInServiceSubnet (10 addresses need 4 bits).
SERVICE_BITS = range(4, 21)
# Calico's default IPAM block sizes (node/pkg/lifecycle/startup/startup.go).
CALICO_BLOCK = {Family.IPV4: 26, Family.IPV6: 122}
# RFC 5737 and RFC 3849/9637: addresses that no real network uses.
DOCUMENTATION: dict[Family, tuple[IPNetwork, ...]] = {
    Family.IPV4: tuple(map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))),
    Family.IPV6: tuple(map(ip_network, ("2001:db8::/32", "3fff::/20"))),
}
NOT_NODES = 3  # addresses of the node network that the bridge, the outside host and a spare take


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a profile: the fields it is about, and what to do."""

    fields: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"{', '.join(self.fields)}: {self.message}"

    @property
    def tops(self) -> frozenset[str]:
        return frozenset(name.split(".")[0] for name in self.fields)


def check(spec: ClusterSpec) -> tuple[Problem, ...]:
    """All problems between the fields of a profile; empty when it can be built."""
    return tuple(problem for rule in RULES for problem in rule(spec))


def _families(spec: ClusterSpec) -> Iterator[Problem]:
    if sorted(spec.families) != sorted(FAMILIES):
        listed = ", ".join(spec.families)
        yield Problem(
            ("families",),
            f"[{listed}] is not dual stack; list both once, primary first: [ipv4, ipv6]",
        )


def _ranges(spec: ClusterSpec, family: Family) -> list[tuple[str, IPNetwork]]:
    named = [
        (f"pod_cidrs.{family}", spec.pod_cidrs.of(family)),
        (f"service_cidrs.{family}", spec.service_cidrs.of(family)),
        (f"node_cidrs.{family}", spec.node_cidrs.of(family)),
    ]
    return named + [(f"internet.{family}", network) for network in spec.internet.of(family)]


def _overlaps(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        for (one, a), (other, b) in combinations(_ranges(spec, family), 2):
            if a.overlaps(b):
                names = (one,) if one == other else (one, other)
                yield Problem(
                    names,
                    f"{a} and {b} overlap; give each its own range, {_EXAMPLE_RANGES[family]}",
                )


_EXAMPLE_RANGES = {
    Family.IPV4: "e.g. pods 10.244.0.0/16, services 10.96.0.0/16, nodes 10.243.0.0/24",
    Family.IPV6: "e.g. pods fd00:10:244::/56, services fd00:10:96::/112, nodes fd00:10:243::/64",
}


_EXAMPLE_MASKS = {
    Family.IPV4: "24 for pods in 10.244.0.0/16",
    Family.IPV6: "64 for pods in fd00:10:244::/56",
}


def _node_masks(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        pods, mask = spec.pod_cidrs.of(family), spec.node_cidr_mask.of(family)
        fields = (f"node_cidr_mask.{family}", f"pod_cidrs.{family}")
        difference = mask - pods.prefixlen
        low, high = pods.prefixlen, min(pods.prefixlen + MASK_MAX_DIFFERENCE, family.host_prefix)
        if not 0 <= difference <= MASK_MAX_DIFFERENCE:
            yield Problem(
                fields,
                f"a node mask of /{mask} is out of range for {pods}: it must be /{low} to /{high}, "
                f"because node mask minus cluster mask must be 0 to {MASK_MAX_DIFFERENCE} "
                f"(kube-controller-manager stops otherwise); e.g. {_EXAMPLE_MASKS[family]}",
            )
        elif 2**difference < spec.node_count:
            yield Problem(
                fields,
                f"{pods} holds {2**difference} node ranges of /{mask}, {spec.node_count} nodes "
                f"need one each; use /{low + (spec.node_count - 1).bit_length()} or longer",
            )
    # Until 1.17 (#79993) one flag set the mask of both families.
    same = spec.node_cidr_mask.ipv4 == spec.node_cidr_mask.ipv6
    if not spec.kubernetes.at_least(1, 17) and not same:
        yield Problem(
            ("node_cidr_mask", "kubernetes"),
            f"Kubernetes {spec.kubernetes} has one node mask for both families; write the same "
            "mask twice (e.g. 24 and pods fd00::/20), or use 1.17.0 or newer",
        )


def _calico_blocks(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        pods, block = spec.pod_cidrs.of(family), CALICO_BLOCK[family]
        longest = block - (spec.node_count - 1).bit_length()
        if pods.prefixlen > longest:
            yield Problem(
                (f"pod_cidrs.{family}",),
                f"{pods} has no Calico block (/{block}) for each of {spec.node_count} nodes; "
                f"use a prefix of /{longest} or shorter",
            )


def _service_sizes(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        services = spec.service_cidrs.of(family)
        bits = family.host_prefix - services.prefixlen
        if bits not in SERVICE_BITS:
            low, high = (family.host_prefix - b for b in (SERVICE_BITS[-1], SERVICE_BITS[0]))
            yield Problem(
                (f"service_cidrs.{family}",),
                f"{services} is out of range: kubeadm takes /{low} to /{high}; "
                f"e.g. {services.network_address}/{family.host_prefix - 16}",
            )


def _node_network(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        network = spec.node_cidrs.of(family)
        # IPv4 loses its network and broadcast address, IPv6 only the subnet-router anycast.
        usable = network.num_addresses - (2 if family is Family.IPV4 else 1)
        if usable < spec.node_count + NOT_NODES:
            yield Problem(
                (f"node_cidrs.{family}",),
                f"{network} is too small for {spec.node_count} nodes, a gateway and the outside "
                f"host; e.g. {'10.243.0.0/24' if family is Family.IPV4 else 'fd00:10:243::/64'}",
            )


def _internet(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        allowed = DOCUMENTATION[family]
        names = ", ".join(map(str, allowed))
        networks = spec.internet.of(family)
        if not networks:
            yield Problem((f"internet.{family}",), f"is empty; e.g. [{allowed[0]}]")
        for network in networks:
            inside = any(a.supernet_of(network) for a in allowed if a.version == network.version)  # type: ignore[arg-type]
            if not inside:
                yield Problem(
                    (f"internet.{family}",),
                    f"{network} may be a real network; use documentation addresses: {names}",
                )


def _node_groups(spec: ClusterSpec) -> Iterator[Problem]:
    names = Counter(group.name for group in spec.nodes)
    for name, times in names.items():
        if times > 1:
            yield Problem(("nodes",), f"{times} groups are called {name!r}; give each its own name")
    if not any(g.role is Role.CONTROL_PLANE and g.kernel is Kernel.HOST for g in spec.nodes):
        yield Problem(
            ("nodes",),
            "no control plane on the host's kernel; "
            "add {name: control-plane, role: control-plane, count: 1}",
        )
    for group in spec.nodes:
        if group.kernel is Kernel.GUEST and group.role is Role.CONTROL_PLANE:
            yield Problem(
                (f"nodes.{group.name}.kernel",),
                "a control plane on a guest kernel is too slow to become ready; use kernel: host",
            )
        if group.kernel is Kernel.GUEST and not spec.kubernetes.at_least(1, 31):
            yield Problem(
                (f"nodes.{group.name}.kernel", "kubernetes"),
                f"guest nodes join by kubeadm's v1beta4, which Kubernetes {spec.kubernetes} lacks "
                "(1.31.0 has it); use kernel: host",
            )


def _proxy_modes(spec: ClusterSpec) -> Iterator[Problem]:
    modes = {group.proxy_mode for group in spec.host_groups}
    if len(modes) > 1:
        listed = ", ".join(f"{g.name}: {g.proxy_mode}" for g in spec.host_groups)
        yield Problem(
            ("nodes",),
            f"nodes on the host's kernel share one kube-proxy configuration, but differ "
            f"({listed}); give them the same proxy_mode, or kernel: guest to those that differ",
        )
    for group in spec.nodes:
        field = (f"nodes.{group.name}.proxy_mode",)
        if group.proxy_mode is ProxyMode.NFTABLES and not spec.kubernetes.at_least(1, 31):
            yield Problem(
                field,
                f"nftables is on by default since Kubernetes 1.31, not in {spec.kubernetes}; "
                "use proxy_mode: ipvs or iptables",
            )
        if group.proxy_mode is ProxyMode.IPTABLES and not spec.kubernetes.at_least(1, 18):
            yield Problem(
                field,
                f"iptables mode is dual stack since Kubernetes 1.18, not in {spec.kubernetes}; "
                "use proxy_mode: ipvs",
            )


def _dataplane(spec: ClusterSpec) -> Iterator[Problem]:
    if spec.calico_dataplane is not Dataplane.NFTABLES:
        return
    if not spec.calico.at_least(3, 29):
        yield Problem(
            ("calico_dataplane", "calico"),
            f"Calico {spec.calico} has no nftables dataplane (3.29 has); "
            "use calico_dataplane: iptables",
        )
    for group in spec.nodes:
        if group.proxy_mode in (ProxyMode.IPVS, ProxyMode.IPTABLES):
            yield Problem(
                ("calico_dataplane", f"nodes.{group.name}.proxy_mode"),
                f"Calico's nftables dataplane cannot run beside kube-proxy {group.proxy_mode} "
                "(calico-node crash-loops); use calico_dataplane: iptables or proxy_mode: nftables",
            )


def _encapsulation(spec: ClusterSpec) -> Iterator[Problem]:
    for family in FAMILIES:
        encapsulation, field = spec.encapsulation.of(family), (f"encapsulation.{family}",)
        ipip = encapsulation.ipip_mode != "Never"
        # IPIP is protocol 4, IPv4 in IPv4: Calico's API refuses it on IPv6 pools.
        if ipip and family is Family.IPV6:
            yield Problem(
                field,
                f"{encapsulation} does not exist for IPv6; use none, vxlan, vxlan-crosssubnet",
            )
        elif ipip and not spec.bgp:
            yield Problem((*field, "bgp"), "ipip needs BIRD for its routes; use bgp: true or vxlan")
        if encapsulation is Encapsulation.NONE and not spec.bgp:
            yield Problem(
                (*field, "bgp"),
                "without encapsulation only BGP knows the routes; use bgp: true or vxlan",
            )
    v6_vxlan = spec.encapsulation.ipv6.vxlan_mode != "Never"
    if v6_vxlan and not spec.calico.at_least(3, 23):
        yield Problem(
            ("encapsulation.ipv6", "calico"),
            f"IPv6 VXLAN exists since Calico 3.23, not in {spec.calico}; use none",
        )


def _oldest(spec: ClusterSpec) -> Iterator[Problem]:
    if not spec.kubernetes.at_least(1, 16):
        yield Problem(
            ("kubernetes",),
            f"{spec.kubernetes} has no dual stack (1.16.0 was the first); e.g. 1.36.4",
        )
    if not spec.calico.at_least(3, 11):
        yield Problem(
            ("calico",), f"{spec.calico} has no dual stack (3.11.0 was the first); e.g. 3.31.0"
        )


RULES = (
    _families,
    _oldest,
    _overlaps,
    _node_masks,
    _calico_blocks,
    _service_sizes,
    _node_network,
    _internet,
    _node_groups,
    _proxy_modes,
    _dataplane,
    _encapsulation,
)
