"""The words of a cluster profile: versions, node groups, values per family.

Every value is checked here on its own; rules between values are in ``clusters.spec_checks``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from helpers.model import Family, IPNetwork


class Role(StrEnum):
    """What a node is for, as kind spells it."""

    CONTROL_PLANE = "control-plane"
    WORKER = "worker"


class ProxyMode(StrEnum):
    """kube-proxy's mode; AUTO is resolved from the kernel before anything is rendered."""

    IPTABLES = "iptables"
    IPVS = "ipvs"
    NFTABLES = "nftables"
    AUTO = "auto"


class Kernel(StrEnum):
    """Whose kernel a node runs: the host's (a container) or one of its own (a guest).

    AUTO is the host's where that has IPVS, else one of its own.
    """

    HOST = "host"
    GUEST = "guest"
    AUTO = "auto"


class Dataplane(StrEnum):
    """How Felix programs policy."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


class Encapsulation(StrEnum):
    """How pod packets cross the node network in one family."""

    NONE = "none"
    IPIP = "ipip"
    IPIP_CROSS_SUBNET = "ipip-crosssubnet"
    VXLAN = "vxlan"
    VXLAN_CROSS_SUBNET = "vxlan-crosssubnet"

    @property
    def ipip_mode(self) -> str:
        """Value of an IPPool's ``ipipMode``: Never, Always or CrossSubnet."""
        return self._mode("ipip")

    @property
    def vxlan_mode(self) -> str:
        """Value of an IPPool's ``vxlanMode``: Never, Always or CrossSubnet."""
        return self._mode("vxlan")

    def _mode(self, tunnel: str) -> str:
        kind, _, where = self.value.partition("-")
        if kind != tunnel:
            return "Never"
        return "CrossSubnet" if where else "Always"


_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)([-+].+)?")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A release such as 1.36.4. Its suffix (``-rc.1``) is kept and takes no part in comparisons."""

    major: int
    minor: int
    patch: int
    suffix: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read ``1.36.4`` or ``v1.36.4``.

        Raises:
            ValueError: the text is not a full version.
        """
        found = _VERSION.fullmatch(text.strip())
        if not found:
            raise ValueError(f"{text!r} is not a full version")
        major, minor, patch, suffix = found.groups()
        return cls(int(major), int(minor), int(patch), suffix or "")

    def at_least(self, major: int, minor: int, patch: int = 0) -> bool:
        return (self.major, self.minor, self.patch) >= (major, minor, patch)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}{self.suffix}"


def _version(value: object) -> Version:
    if isinstance(value, Version):
        return value
    if not isinstance(value, str):
        # YAML reads an unquoted 1.20 as the number 1.2: never guess which was meant.
        raise ValueError(f"{value!r} is not a full version; quote it")
    return Version.parse(value)


def _canonical(value: object, family: Family) -> IPNetwork:
    """A network written the one way that Kubernetes accepts everywhere (KEP-4858).

    Raises:
        ValueError: with the sentence that says how to write it.
    """
    if isinstance(value, (IPv4Network, IPv6Network)):
        network: IPNetwork = value
        if network.version != family.version:
            raise ValueError(f"{value} is not an {family.kubernetes} network")
        return network
    text = str(value).strip()
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length")
    kind = IPv4Network if family is Family.IPV4 else IPv6Network
    try:
        loose = kind(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an {family.kubernetes} network") from None
    try:
        network = kind(text)
    except ValueError:
        raise ValueError(f"{text} has host bits set, write {loose}") from None
    _refuse_special(network)
    return network


def _refuse_special(network: IPNetwork) -> None:
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{network} is IPv4-mapped, Kubernetes refuses it; write it as IPv4")
    for word in ("loopback", "multicast", "link_local", "unspecified"):
        if getattr(network, f"is_{word}"):
            raise ValueError(f"{network} is {word.replace('_', '-')} space, nodes cannot route it")


def _network4(value: object) -> IPNetwork:
    return _canonical(value, Family.IPV4)


def _network6(value: object) -> IPNetwork:
    return _canonical(value, Family.IPV6)


def _split(value: object) -> object:
    """``a,b`` from the command line means the list [a, b]."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Network4 = Annotated[IPv4Network, BeforeValidator(_network4)]
Network6 = Annotated[IPv6Network, BeforeValidator(_network6)]
VersionField = Annotated[Version, BeforeValidator(_version), PlainSerializer(str)]
Families = Annotated[tuple[Family, ...], BeforeValidator(_split)]
Versions = Annotated[tuple[VersionField, ...], BeforeValidator(_split)]

# What to write where something is missing or wrong; the values of profiles/native.yaml.
EXAMPLES: Mapping[str, str] = {
    "name": "name: mine",
    "kubernetes": 'kubernetes: "1.36.4"',
    "calico": 'calico: "3.31.0"',
    "calico_upgrades": 'calico_upgrades: ["3.31.0"]',
    "families": "families: [ipv4, ipv6]",
    "nodes": "nodes: [{name: workers, role: worker, count: 2, proxy_mode: auto}]",
    "pod_cidrs": "pod_cidrs: {ipv4: 10.244.0.0/16, ipv6: fd00:10:244::/56}",
    "service_cidrs": "service_cidrs: {ipv4: 10.96.0.0/16, ipv6: fd00:10:96::/112}",
    "node_cidrs": "node_cidrs: {ipv4: 10.243.0.0/24, ipv6: fd00:10:243::/64}",
    "node_cidr_mask": "node_cidr_mask: {ipv4: 24, ipv6: 64}",
    "internet": "internet: {ipv4: [198.51.100.0/24], ipv6: [2001:db8::/32]}",
    "encapsulation": "encapsulation: {ipv4: none, ipv6: none}",
    "nat_outgoing": "nat_outgoing: {ipv4: true, ipv6: false}",
    "bgp": "bgp: true",
    "mtu": "mtu: 1450",
    "calico_dataplane": "calico_dataplane: iptables",
}


class Frozen(BaseModel):
    """Base of everything in a profile: immutable, and a misspelt field is an error."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Networks(Frozen):
    """One network per family."""

    ipv4: Network4
    ipv6: Network6

    def of(self, family: Family) -> IPNetwork:
        return self.ipv4 if family is Family.IPV4 else self.ipv6

    def pair(self, families: Iterable[Family]) -> str:
        """``10.244.0.0/16,fd00:10:244::/56``: as flags and kubeadm take them, in that order."""
        return ",".join(str(self.of(family)) for family in families)


class NetworkLists(Frozen):
    """Any number of networks per family."""

    ipv4: Annotated[tuple[Network4, ...], BeforeValidator(_split)]
    ipv6: Annotated[tuple[Network6, ...], BeforeValidator(_split)]

    def of(self, family: Family) -> tuple[IPNetwork, ...]:
        return self.ipv4 if family is Family.IPV4 else self.ipv6


class Masks(Frozen):
    """One prefix length per family."""

    ipv4: int = Field(ge=1, le=32)
    ipv6: int = Field(ge=1, le=128)

    def of(self, family: Family) -> int:
        return self.ipv4 if family is Family.IPV4 else self.ipv6


class Flags(Frozen):
    """One yes or no per family."""

    ipv4: bool
    ipv6: bool

    def of(self, family: Family) -> bool:
        return self.ipv4 if family is Family.IPV4 else self.ipv6


class Encapsulations(Frozen):
    """One encapsulation per family."""

    ipv4: Encapsulation
    ipv6: Encapsulation

    def of(self, family: Family) -> Encapsulation:
        return self.ipv4 if family is Family.IPV4 else self.ipv6


class NodeGroup(Frozen):
    """Nodes that are alike."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")
    role: Role
    count: int = Field(ge=1, le=100)
    proxy_mode: ProxyMode = ProxyMode.AUTO
    kernel: Kernel = Kernel.HOST
