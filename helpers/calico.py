"""Calico's custom resources as frozen views.

Field meanings: IPPool, BlockAffinity and IPAMBlock in projectcalico.org's reference; the CRDs carry
the same fields under crd.projectcalico.org/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Any

from helpers.model import Family, IPAddress, IPNetwork

ADDRESS_ANNOTATIONS = {
    Family.IPV4: "projectcalico.org/IPv4Address",
    Family.IPV6: "projectcalico.org/IPv6Address",
}


@dataclass(frozen=True, slots=True)
class IPPool:
    """A pool that pods' addresses come from."""

    name: str
    cidr: IPNetwork
    disabled: bool
    nat_outgoing: bool
    ipip_mode: str
    vxlan_mode: str
    node_selector: str
    namespace_selector: str
    allowed_uses: tuple[str, ...]
    assignment_mode: str
    block_size: int

    @property
    def family(self) -> Family:
        return Family.of(self.cidr)

    @property
    def encapsulated(self) -> bool:
        return self.ipip_mode != "Never" or self.vxlan_mode != "Never"

    @classmethod
    def from_api(cls, pool: Mapping[str, Any]) -> IPPool:
        """Parse with the API's own defaults for what is not written."""
        spec = pool["spec"]
        cidr = ip_network(spec["cidr"])
        return cls(
            name=pool["metadata"]["name"],
            cidr=cidr,
            disabled=bool(spec.get("disabled", False)),
            nat_outgoing=bool(spec.get("natOutgoing", False)),
            ipip_mode=spec.get("ipipMode") or "Never",
            vxlan_mode=spec.get("vxlanMode") or "Never",
            node_selector=spec.get("nodeSelector") or "all()",
            namespace_selector=spec.get("namespaceSelector") or "",
            allowed_uses=tuple(spec.get("allowedUses") or ("Workload", "Tunnel")),
            assignment_mode=spec.get("assignmentMode") or "Automatic",
            block_size=int(spec.get("blockSize") or (26 if cidr.version == 4 else 122)),
        )


@dataclass(frozen=True, slots=True)
class BlockAffinity:
    """Which node owns a block of addresses."""

    cidr: IPNetwork
    node: str
    state: str

    @classmethod
    def from_api(cls, item: Mapping[str, Any]) -> BlockAffinity:
        spec = item["spec"]
        return cls(ip_network(spec["cidr"]), spec.get("node", ""), spec.get("state", ""))


@dataclass(frozen=True, slots=True)
class Allocation:
    """One address that Calico's IPAM handed out."""

    address: IPAddress
    handle: str | None
    pod: str | None  # "namespace/name"
    node: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """A block of addresses with what is allocated in it."""

    cidr: IPNetwork
    node: str | None
    allocations: tuple[Allocation, ...]

    @classmethod
    def from_api(cls, item: Mapping[str, Any]) -> Block:
        """Parse; ``allocations[i]`` is an index into ``attributes`` or null (free)."""
        spec = item["spec"]
        cidr = ip_network(spec["cidr"])
        affinity = spec.get("affinity") or ""
        found = tuple(
            _allocation(cidr, ordinal, spec["attributes"][index])
            for ordinal, index in enumerate(spec.get("allocations") or [])
            if index is not None
        )
        return cls(cidr, affinity.removeprefix("host:") or None, found)


def _allocation(cidr: IPNetwork, ordinal: int, attribute: Mapping[str, Any]) -> Allocation:
    secondary = attribute.get("secondary") or {}
    pod = secondary.get("pod")
    return Allocation(
        address=cidr.network_address + ordinal,
        handle=attribute.get("handle_id"),
        pod=f"{secondary.get('namespace')}/{pod}" if pod else None,
        node=secondary.get("node"),
    )


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """Calico's own idea of a node's addresses, with prefix length, per family."""

    interfaces: Mapping[Family, IPv4Interface | IPv6Interface]

    def address(self, family: Family) -> IPAddress | None:
        interface = self.interfaces.get(family)
        return interface.ip if interface else None

    @classmethod
    def from_annotations(cls, annotations: Mapping[str, str]) -> NodeNetwork:
        return cls(
            {
                family: ip_interface(annotations[key])
                for family, key in ADDRESS_ANNOTATIONS.items()
                if annotations.get(key)
            }
        )
