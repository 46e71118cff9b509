"""What the kernel of a node in ipvs mode must hold: a pure function of the API and the node.

Source: pkg/proxy/ipvs of Kubernetes 1.36, README and behaviour (proxier, ipset names and types,
sysctls), checked against nodes that run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from helpers.ipvs.kernel import RealServer, VirtualServer
from helpers.ipvs.service_ports import ServicePort, service_ports
from helpers.model import Family, IPAddress, IPNetwork
from helpers.services import EndpointSlice

DEFAULT_SCHEDULER: Final = "rr"
NAME_LIMIT: Final = 31  # characters of an ipset's name (IPSET_MAXNAMELEN)
INET: Final = {Family.IPV4: "inet", Family.IPV6: "inet6"}

# Name of every set of the IPv4 half, with its type.
SETS: Final[Mapping[str, str]] = {
    "KUBE-LOOP-BACK": "hash:ip,port,ip",
    "KUBE-CLUSTER-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER": "hash:ip,port",
    "KUBE-LOAD-BALANCER-FW": "hash:ip,port",
    "KUBE-LOAD-BALANCER-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER-SOURCE-IP": "hash:ip,port,ip",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
    "KUBE-NODE-PORT-TCP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-TCP": "bitmap:port",
    "KUBE-NODE-PORT-UDP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-UDP": "bitmap:port",
    "KUBE-NODE-PORT-SCTP-HASH": "hash:ip,port",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
    "KUBE-HEALTH-CHECK-NODE-PORT": "bitmap:port",
    "KUBE-IPVS-IPS": "hash:ip",
}
# Set at the start of kube-proxy, and by nothing afterwards. They serve both families, whatever
# their names say. conntrack: so that netfilter sees, and can masquerade, what IPVS forwards.
SYSCTLS: Final[Mapping[str, str]] = {
    "net/ipv4/vs/conntrack": "1",
    "net/ipv4/vs/expire_nodest_conn": "1",
    "net/ipv4/vs/expire_quiescent_template": "1",
    "net/ipv4/ip_forward": "1",
}
STRICT_ARP: Final[Mapping[str, str]] = {
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv4/conf/all/arp_announce": "2",
}


def set_name(name: str, family: Family) -> str:
    """Name of a set in a family: ``KUBE-X`` becomes ``KUBE-6-X``, cut to what ipset allows."""
    if family is Family.IPV4:
        return name
    return f"KUBE-6-{name.removeprefix('KUBE-')}"[:NAME_LIMIT]


@dataclass(frozen=True, slots=True)
class Settings:
    """What kube-proxy is told: the parts of KubeProxyConfiguration that show in the kernel."""

    scheduler: str = DEFAULT_SCHEDULER
    node_port_addresses: tuple[str, ...] = ()
    excluded: tuple[IPNetwork, ...] = ()
    strict_arp: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """From KubeProxyConfiguration v1alpha1, as its ConfigMap holds it."""
        ipvs = config.get("ipvs") or {}
        return cls(
            scheduler=ipvs.get("scheduler") or DEFAULT_SCHEDULER,
            node_port_addresses=tuple(config.get("nodePortAddresses") or ()),
            excluded=tuple(ip_network(cidr) for cidr in ipvs.get("excludeCIDRs") or ()),
            strict_arp=bool(ipvs.get("strictARP")),
        )


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """A node. ``own``: all its addresses but those of kube-ipvs0; ``internal``: InternalIPs."""

    name: str
    own: frozenset[IPAddress]
    internal: tuple[IPAddress, ...] = ()

    def node_port_addresses(self, setting: Sequence[str], family: Family) -> frozenset[IPAddress]:
        """Where NodePorts of a family listen: everywhere unless the setting names networks of it.

        Never on loopback and, for IPv6, never on link-local addresses.
        """
        mine = frozenset(
            a
            for a in self.own
            if Family.of(a) is family
            and not a.is_loopback
            # IPv4 has no such exception: its link-local addresses are as good as any other.
            and not (family is Family.IPV6 and a.is_link_local)
        )
        if "primary" in setting:
            return frozenset(a for a in self.internal if Family.of(a) is family)
        networks = [ip_network(cidr) for cidr in setting]
        wanted = [n for n in networks if Family.of(n) is family]
        if not wanted or any(network.prefixlen == 0 for network in wanted):
            return mine
        return frozenset(a for a in mine if any(a in network for network in wanted))


@dataclass(frozen=True, slots=True)
class Promise:
    """A virtual server that must be there; ``backends`` None: which ones is not known here."""

    owner: str
    affinity: int | None
    backends: frozenset[RealServer] | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What one node must hold for one family; everything with the Service that wants it."""

    family: Family
    scheduler: str
    bound: dict[IPAddress, str] = field(default_factory=dict)
    servers: dict[VirtualServer, Promise] = field(default_factory=dict)
    sets: dict[str, dict[str, str]] = field(default_factory=dict)  # set -> entry -> owner

    def enter(self, name: str, entry: str, owner: str) -> None:
        self.sets[set_name(name, self.family)].setdefault(entry, owner)


def expected_state(
    services: Iterable[Mapping[str, Any]],
    slices: Iterable[EndpointSlice],
    family: Family,
    node: NodeAddresses,
    settings: Settings,
) -> Expected:
    """The kernel state of one family that the API, the node and the configuration ask for."""
    made = Expected(family, settings.scheduler)
    made.sets.update({set_name(name, family): {} for name in SETS})
    listening = node.node_port_addresses(settings.node_port_addresses, family)
    for port in service_ports(services, slices, family, node.name):
        _loop_back(made, port)
        _cluster_ips(made, port)
        _external_ips(made, port, node)
        _load_balancer(made, port, node)
        _node_port(made, port, listening)
    for address, owner in made.bound.items():
        made.enter("KUBE-IPVS-IPS", str(address), owner)
    return made


def expected_sysctls(settings: Settings) -> dict[str, str]:
    """Kernel settings of a node in ipvs mode."""
    return {**SYSCTLS, **(STRICT_ARP if settings.strict_arp else {})}


def _serve(
    made: Expected, port: ServicePort, address: IPAddress, number: int, *, local_only: bool
) -> None:
    backends = None if port.hinted else port.backends(local_only=local_only)
    server = VirtualServer(port.protocol, address, number)
    made.servers[server] = Promise(port.owner, port.affinity, backends)


def _entry(port: ServicePort, address: IPAddress, number: int | None = None) -> str:
    return f"{address},{port.protocol}:{port.number if number is None else number}"


def _loop_back(made: Expected, port: ServicePort) -> None:
    """A backend that reaches itself is masqueraded: that takes every endpoint of the node."""
    for endpoint in port.endpoints:
        if endpoint.local:
            real = endpoint.real
            entry = f"{_entry(port, real.address, real.port)},{real.address}"
            made.enter("KUBE-LOOP-BACK", entry, port.owner)


def _cluster_ips(made: Expected, port: ServicePort) -> None:
    for address in port.cluster_ips:
        made.bound[address] = port.owner
        made.enter("KUBE-CLUSTER-IP", _entry(port, address), port.owner)
        _serve(made, port, address, port.number, local_only=port.internal_local)


def _bind(made: Expected, port: ServicePort, address: IPAddress, node: NodeAddresses) -> None:
    if address not in node.own:  # an address of the node itself is local already
        made.bound[address] = port.owner


def _external_ips(made: Expected, port: ServicePort, node: NodeAddresses) -> None:
    name = "KUBE-EXTERNAL-IP-LOCAL" if port.external_local else "KUBE-EXTERNAL-IP"
    for address in port.external_ips:
        _bind(made, port, address, node)
        made.enter(name, _entry(port, address), port.owner)
        _serve(made, port, address, port.number, local_only=port.external_local)


def _load_balancer(made: Expected, port: ServicePort, node: NodeAddresses) -> None:
    for address in port.ingress:
        entry = _entry(port, address)
        _bind(made, port, address, node)
        made.enter("KUBE-LOAD-BALANCER", entry, port.owner)
        if port.external_local:
            made.enter("KUBE-LOAD-BALANCER-LOCAL", entry, port.owner)
        if port.source_ranges:
            made.enter("KUBE-LOAD-BALANCER-FW", entry, port.owner)
        for cidr in map(ip_network, port.source_ranges):
            # ipset prints a network of one address without its prefix.
            one = cidr.prefixlen == cidr.max_prefixlen
            source = f"{entry},{cidr.network_address if one else cidr}"
            made.enter("KUBE-LOAD-BALANCER-SOURCE-CIDR", source, port.owner)
            if any(own in cidr for own in node.internal if own.version == cidr.version):
                made.enter("KUBE-LOAD-BALANCER-SOURCE-IP", f"{entry},{address}", port.owner)
        _serve(made, port, address, port.number, local_only=port.external_local)
    if port.health_port:
        made.enter("KUBE-HEALTH-CHECK-NODE-PORT", str(port.health_port), port.owner)


def _node_port(made: Expected, port: ServicePort, listening: frozenset[IPAddress]) -> None:
    if port.node_port is None:
        return
    for kind in ("", "LOCAL-") if port.external_local else ("",):
        name = f"KUBE-NODE-PORT-{kind}{port.protocol.upper()}"
        if port.protocol == "sctp":  # a bitmap of ports knows no SCTP
            for address in listening:
                made.enter(f"{name}-HASH", _entry(port, address, port.node_port), port.owner)
        elif listening:
            made.enter(name, str(port.node_port), port.owner)
    for address in listening:
        _serve(made, port, address, port.node_port, local_only=port.external_local)


def place(promise: Promise, server: VirtualServer) -> str:
    """A virtual server in words: where it is, and what for."""
    return f"{server} of Service {promise.owner}"
