"""A host's network state as data: interfaces, routes, sysctls, netfilter tables.

Read by an agent in the network namespace that is meant. Text is parsed here and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Final

from helpers.model import FAMILIES, Family, IPAddress, IPNetwork
from helpers.parallel import on_each
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

ANYWHERE: Final[Mapping[Family, IPNetwork]] = {
    Family.IPV4: ip_network("0.0.0.0/0"),
    Family.IPV6: ip_network("::/0"),
}
# Devices that Calico makes to tunnel or encrypt: felix/dataplane/linux, DOC "overlay networking".
CALICO_TUNNELS: Final = frozenset(
    {"tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali"}
)
# Interfaces that are never how a node reaches another one.
_NOT_FABRIC: Final = re.compile(r"lo|cali.*|docker0|kube-ipvs0|nodelocaldns|dummy\d+")


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface; ``usable`` leaves out addresses that duplicate detection holds back."""

    name: str
    up: bool
    usable: tuple[IPv4Interface | IPv6Interface, ...]

    @property
    def fabric(self) -> bool:
        """Whether it may lead to other nodes: no loopback, no pod's, no tunnel of Calico."""
        return self.name not in CALICO_TUNNELS and not _NOT_FABRIC.fullmatch(self.name)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a route leads; ``via`` is None on the link itself."""

    via: IPAddress | None
    device: str | None

    def __str__(self) -> str:
        via = f"via {self.via} " if self.via else ""
        return f"{via}dev {self.device}"


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table. ``kind`` is ``unicast``, ``blackhole``, ``unreachable``, ..."""

    destination: IPNetwork
    kind: str
    hops: tuple[Hop, ...]
    protocol: str = ""
    metric: int = 0

    @property
    def host(self) -> bool:
        """Whether it leads to one address only."""
        return self.destination.prefixlen == self.destination.max_prefixlen

    def __str__(self) -> str:
        kind = "" if self.kind == "unicast" else f"{self.kind} "
        hops = "".join(f" {hop}" for hop in self.hops) if self.kind == "unicast" else ""
        proto = f" proto {self.protocol}" if self.protocol else ""
        return f"{kind}{self.destination}{hops}{proto}"


@dataclass(frozen=True, slots=True)
class NetState:
    """Interfaces and main routing tables of one host at one moment."""

    interfaces: tuple[Interface, ...]
    routes: Mapping[Family, tuple[Route, ...]]

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> NetState:
        """From the agent's ``facts`` operation.

        Raises:
            Inconclusive: the agent could not read them.
        """
        if facts.get("error"):
            raise Inconclusive(f"interfaces and routes could not be read: {facts['error']}")
        return cls(
            tuple(_interface(link) for link in facts["addresses"] if link),
            {
                family: tuple(_route(r, family) for r in facts[f"routes{family.version}"])
                for family in FAMILIES
            },
        )

    def interface_of(self, address: IPAddress) -> Interface | None:
        """The interface that has this address, None when none has."""
        for interface in self.interfaces:
            if any(own.ip == address for own in interface.usable):
                return interface
        return None

    def has(self, interface: str) -> bool:
        return any(i.name == interface for i in self.interfaces)

    def to(self, destination: IPNetwork) -> list[Route]:
        """Routes to exactly this destination."""
        routes = self.routes[Family.of(destination)]
        return [route for route in routes if route.destination == destination]

    def default_routes(self, family: Family) -> list[Route]:
        return [r for r in self.to(ANYWHERE[family]) if r.kind == "unicast"]

    def lookup(self, address: IPAddress) -> Route | None:
        """The route that packets to an address take: longest prefix, then lowest metric."""
        matching = [r for r in self.routes[Family.of(address)] if address in r.destination]
        return min(matching, key=lambda r: (-r.destination.prefixlen, r.metric), default=None)


def _interface(link: Mapping[str, Any]) -> Interface:
    usable = tuple(
        ip_interface(f"{entry['local']}/{entry['prefixlen']}")
        for entry in link.get("addr_info", [])
        if "local" in entry and not entry.get("tentative") and not entry.get("dadfailed")
    )
    return Interface(link["ifname"], "UP" in link.get("flags", []), usable)


def _route(entry: Mapping[str, Any], family: Family) -> Route:
    destination = entry["dst"]
    network = ANYWHERE[family] if destination == "default" else ip_network(destination)
    hops = entry.get("nexthops") or [entry]
    return Route(
        destination=network,
        kind=entry.get("type", "unicast"),
        hops=tuple(_hop(hop) for hop in hops),
        protocol=str(entry.get("protocol", "")),
        metric=int(entry.get("metric", 0)),
    )


def _hop(entry: Mapping[str, Any]) -> Hop:
    # An IPv4 route through an IPv6 neighbour has "via" instead of "gateway".
    via = entry.get("gateway") or (entry.get("via") or {}).get("host")
    return Hop(ip_address(via) if via else None, entry.get("dev"))


def observe(agent: Agent) -> NetState:
    """Interfaces and routes where the agent is.

    Raises:
        Inconclusive: the agent was lost or could not read them.
    """
    return NetState.from_facts(agent.call_one("facts"))


def of_nodes(agents: AgentPool) -> dict[str, NetState]:
    """Network state of every node, by its name."""
    return on_each(agents.nodes, lambda node: observe(agents.nodes[node]))


def netfilter_of_nodes(agents: AgentPool) -> dict[str, Netfilter]:
    """Netfilter of every node, by its name."""
    return on_each(agents.nodes, lambda node: netfilter(agents.nodes[node]))


def sysctls(agent: Agent, names: Iterable[str]) -> dict[str, str | None]:
    """Values by name (``net/ipv6/conf/all/forwarding``); None: the kernel has no such name.

    Slashes, because a dot may be part of an interface's name.
    """
    return {name: agent.call_one("sysctl", name=name)["value"] for name in names}


# -- netfilter ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Netfilter:
    """Names of what is programmed into netfilter, by family; rules are left out.

    Attributes:
        tables: nftables tables, e.g. ``kube-proxy`` (inet and bridge tables are left out).
        chains: chains of iptables or ip6tables, whichever of their two variants holds them.
        errors: programs that could not read anything, with what they said.
    """

    tables: Mapping[Family, frozenset[str]]
    chains: Mapping[Family, frozenset[str]]
    errors: tuple[str, ...] = ()


# Each variant shows only its own rules, so both are asked. Without -t neither loads a module or
# creates a table: looking must not change what is looked at.
SAVE_COMMANDS: Final[Mapping[Family, tuple[str, ...]]] = {
    Family.IPV4: ("iptables-nft-save", "iptables-legacy-save"),
    Family.IPV6: ("ip6tables-nft-save", "ip6tables-legacy-save"),
}
_NFT_FAMILIES: Final = {"ip": Family.IPV4, "ip6": Family.IPV6}


def netfilter(agent: Agent) -> Netfilter:
    """Tables and chains of both families where the agent is.

    Raises:
        Inconclusive: for one family no program could read anything.
    """
    errors: list[str] = []
    listed = _output(agent, ["nft", "-j", "list", "tables"], errors)
    saves = {
        family: [_output(agent, [command], errors) for command in commands]
        for family, commands in SAVE_COMMANDS.items()
    }
    unread = [f for f in FAMILIES if listed is None and all(s is None for s in saves[f])]
    if unread:
        raise Inconclusive(
            f"netfilter on {agent.node} cannot be read for {', '.join(unread)}: "
            + "; ".join(errors)
        )
    return Netfilter(
        tables=parse_tables(listed or ""),
        chains={f: parse_chains(filter(None, found)) for f, found in saves.items()},
        errors=tuple(errors),
    )


def _output(agent: Agent, argv: Sequence[str], errors: list[str]) -> str | None:
    result = agent.call_one("run", argv=list(argv))
    if result["rc"] == 0:
        return str(result["stdout"])
    errors.append(f"{argv[0]}: {result['stderr'].strip()[:200] or result['rc']}")
    return None


def parse_tables(text: str) -> dict[Family, frozenset[str]]:
    """Names of the ip and ip6 tables in the output of ``nft -j list tables``."""
    entries = json.loads(text)["nftables"] if text.strip() else []
    tables = [entry["table"] for entry in entries if "table" in entry]
    return {
        family: frozenset(t["name"] for t in tables if _NFT_FAMILIES.get(t["family"]) is family)
        for family in FAMILIES
    }


def parse_chains(texts: Iterable[str]) -> frozenset[str]:
    """Names of the chains in the output of ``iptables-save`` (lines ``:NAME POLICY [0:0]``)."""
    return frozenset(
        line[1:].split(" ", 1)[0]
        for text in texts
        for line in text.splitlines()
        if line.startswith(":")
    )
