"""Both ends of a pod's veth as data, and whether they are what Calico promises.

``pod_end`` reads inside of the pod, ``host_end`` on its node. The judgements compare the two with
each other and with the API, so that no value of Calico's code is repeated here but 169.254.1.1,
which is on no interface (cni-plugin dataplane_linux.go).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import TYPE_CHECKING, Any, Final

from helpers.findings import listed
from helpers.model import FAMILIES, DualAddresses, Family, IPAddress
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent

POD_INTERFACE: Final = "eth0"
VIRTUAL_GATEWAY: Final = IPv4Address("169.254.1.1")
UNUSABLE: Final = ("tentative", "dadfailed", "deprecated")
UNRESOLVED: Final = frozenset({"FAILED", "INCOMPLETE", "NONE"})


@dataclass(frozen=True, slots=True)
class Held:
    """An address on an interface. ``flaws``: flags that keep it from being used."""

    interface: IPv4Interface | IPv6Interface
    scope: str
    flaws: tuple[str, ...] = ()

    @property
    def ip(self) -> IPAddress:
        return self.interface.ip


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface with its addresses."""

    name: str
    mac: str
    mtu: int
    addresses: tuple[Held, ...]

    def of(self, family: Family, scope: str) -> list[Held]:
        return [a for a in self.addresses if Family.of(a.ip) is family and a.scope == scope]

    @classmethod
    def from_ip(cls, entry: Mapping[str, Any]) -> Link:
        """One entry of ``ip -j addr``."""
        held = tuple(
            Held(
                ip_interface(f"{a['local']}/{a['prefixlen']}"),
                a["scope"],
                tuple(flaw for flaw in UNUSABLE if a.get(flaw)),
            )
            for a in entry.get("addr_info", [])
            if "local" in a
        )
        return cls(entry["ifname"], entry.get("address", ""), entry["mtu"], held)


@dataclass(frozen=True, slots=True)
class PodEnd:
    """What a pod sees: its interface, its default routes (gateway, device), its neighbours."""

    link: Link
    defaults: Mapping[Family, tuple[tuple[IPAddress | None, str], ...]]
    neighbours: Mapping[IPAddress, str]  # address -> MAC, resolved ones only

    def gateway(self, family: Family) -> IPAddress | None:
        """Gateway of the only default route, None when there is not exactly one with a gateway."""
        routes = self.defaults[family]
        return routes[0][0] if len(routes) == 1 else None


@dataclass(frozen=True, slots=True)
class HostEnd:
    """The other end of the veth, on the node. ``proxy``: proxy_arp and proxy_ndp by family."""

    link: Link
    proxy: Mapping[Family, str]


# -- observation ----------------------------------------------------------------------------------


def ip(agent: Agent, *words: str) -> list[dict[str, Any]]:
    """``ip -j WORDS`` where the agent is, as data.

    Raises:
        Inconclusive: it could not be run, or failed.
    """
    done = agent.call_one("run", argv=["ip", "-j", *words])
    if done["rc"] != 0:
        raise Inconclusive(f"{agent.name}: ip {' '.join(words)}: {done['stderr'].strip()}")
    parsed: list[dict[str, Any]] = json.loads(done["stdout"] or "[]")
    return [entry for entry in parsed if entry]  # `ip` prints {} for what a filter left out


def pod_end(agent: Agent) -> PodEnd:
    """Read a pod's own end."""
    (entry,) = ip(agent, "addr", "show", "dev", POD_INTERFACE)
    defaults = {
        family: tuple(
            (ip_address(r["gateway"]) if "gateway" in r else None, r.get("dev", ""))
            for r in ip(agent, f"-{family.version}", "route", "show", "default")
        )
        for family in FAMILIES
    }
    return PodEnd(Link.from_ip(entry), defaults, neighbours(agent))


def neighbours(agent: Agent) -> dict[IPAddress, str]:
    """Resolved neighbours on a pod's interface."""
    return {
        ip_address(n["dst"]): n["lladdr"]
        for n in ip(agent, "neigh", "show", "dev", POD_INTERFACE)
        if "lladdr" in n and not UNRESOLVED & set(n.get("state", []))
    }


def route_device(agent: Agent, target: IPAddress) -> str:
    """Interface that leads from the agent's place to an address.

    Raises:
        Inconclusive: there is no route.
    """
    (route,) = ip(agent, "route", "get", str(target))
    return str(route["dev"])


def link(agent: Agent, name: str) -> Link:
    """An interface by name."""
    (entry,) = ip(agent, "addr", "show", "dev", name)
    return Link.from_ip(entry)


def host_end(node_agent: Agent, pod: DualAddresses) -> HostEnd:
    """Read the node's end of a pod's veth, found by the route to the pod.

    Raises:
        Inconclusive: no route to the pod, or the two families lead to different interfaces.
    """
    devices = {route_device(node_agent, each) for each in pod.all}
    if len(devices) != 1:
        raise Inconclusive(f"{node_agent.name}: routes to {listed(pod.all)} use {listed(devices)}")
    (name,) = devices
    proxy = {
        Family.IPV4: _sysctl(node_agent, f"net/ipv4/conf/{name}/proxy_arp"),
        Family.IPV6: _sysctl(node_agent, f"net/ipv6/conf/{name}/proxy_ndp"),
    }
    return HostEnd(link(node_agent, name), proxy)


def _sysctl(agent: Agent, name: str) -> str:
    read = agent.call_one("sysctl", name=name)
    return str(read["value"] if read["error"] is None else read["error"])


# -- judgements -----------------------------------------------------------------------------------


def address_findings(where: str, end: PodEnd, api: DualAddresses, family: Family) -> list[str]:
    """PODIP-006: the interface has exactly the API's addresses, as host routes, usable."""
    held = end.link.of(family, "global")
    expected = {a for a in api.all if Family.of(a) is family}
    on = f"{where}: {POD_INTERFACE}"
    found = []
    if {h.ip for h in held} != expected:
        found.append(
            f"{on} has global {family.kubernetes} addresses {listed(h.interface for h in held)}, "
            f"but status.podIPs says {listed(sorted(expected))}: something in the pod or a second "
            "CNI plugin changes its addresses"
        )
    for each in held:
        if each.interface.network.prefixlen != family.host_prefix:
            found.append(
                f"{on} has {each.interface}, expected /{family.host_prefix}: neighbours that are "
                "not there would be looked for on the link"
            )
        if each.flaws:
            found.append(
                f"{on} has {each.ip}, which is {listed(each.flaws)}: it cannot be used; duplicate "
                "address detection must be off on pod interfaces (accept_dad=0)"
            )
    # IPv6 only: it needs a link-local address to ask for its neighbours, IPv4 does not.
    if family is Family.IPV6 and len(end.link.of(family, "link")) != 1:
        locals_ = listed(h.interface for h in end.link.of(family, "link"))
        found.append(f"{on} has link-local addresses {locals_}, expected exactly one")
    return found


def gateway_findings(where: str, end: PodEnd, host: HostEnd, family: Family) -> list[str]:
    """PODIP-007: one default route, to the node's end of the veth, whose MAC answers for it."""
    routes = end.defaults[family]
    gateway = end.gateway(family)
    if gateway is None or routes[0][1] != POD_INTERFACE:
        seen = listed(f"via {via} dev {device}" for via, device in routes)
        return [
            f"{where}: default {family.kubernetes} routes are {seen}; expected one via the node's "
            f"end of {POD_INTERFACE}: the CNI plugin did not set the pod up completely, recreate "
            "the pod"
        ]
    found = []
    own = {held.ip for held in host.link.of(family, "link")}
    # IPv4's gateway is on no interface: the node answers for it by proxy ARP.
    valid = own if family is Family.IPV6 else {VIRTUAL_GATEWAY}
    if gateway not in valid:
        found.append(
            f"{where}: its {family.kubernetes} gateway {gateway} is not an address of "
            f"{host.link.name} on the node (there: {listed(sorted(map(str, valid)))}): packets to "
            "it are lost when the neighbour entry expires; restore the address or recreate the pod"
        )
    mac = end.neighbours.get(gateway)
    # None: not resolved at this moment, which is for CONN-014 to judge (it flushes the same table).
    if mac is not None and mac != host.link.mac:
        found.append(
            f"{where}: its {family.kubernetes} gateway {gateway} has MAC {mac} in the pod, but "
            f"{host.link.name} on the node has {host.link.mac}: packets go to nobody"
        )
    return found


def resolution_findings(
    where: str, gateway: IPAddress, known: Mapping[IPAddress, str], host: HostEnd, family: Family
) -> list[str]:
    """CONN-014: after a flush the gateway was asked for again, and the node answers for it."""
    found = []
    asks = "ARP requests" if family is Family.IPV4 else "neighbour solicitations"
    setting = "proxy_arp" if family is Family.IPV4 else "proxy_ndp"
    if known.get(gateway) != host.link.mac:
        found.append(
            f"{where} does not resolve its {family.kubernetes} gateway {gateway} after its "
            f"neighbours were flushed (it has {known.get(gateway) or 'no answer'}, "
            f"{host.link.name} is {host.link.mac}): {asks} on {host.link.name} are not answered; "
            "look for packet filters on the node that drop them"
        )
    if host.proxy[family] != "1":
        found.append(
            f"{where}: {setting} is {host.proxy[family]} on {host.link.name}, expected 1: set "
            f"sysctl net.ipv{family.version}.conf.{host.link.name}.{setting}=1 (Felix does it for "
            "every workload interface)"
        )
    return found


def link_locals(ends: Mapping[str, PodEnd]) -> dict[str, Sequence[IPAddress]]:
    """IPv6 link-local addresses of pods, by the same names."""
    return {n: [h.ip for h in e.link.of(Family.IPV6, "link")] for n, e in ends.items()}
