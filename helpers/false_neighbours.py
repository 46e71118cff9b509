"""Pods that pretend to be routers or neighbours: what nodes and other pods then believe.

Tables are compared by what the attacker would gain: entries of its prefix, its MAC for somebody
else's address, itself as a router. Other pods may come and go meanwhile.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.packets import Nonce
from helpers.packets.discovery import (
    ALL_NODES,
    in_fragments,
    neighbour_advertisement,
    neighbour_solicitation,
    redirect,
    router_advertisement,
)
from helpers.packets.raw import capturing_all
from helpers.parallel import on_each
from helpers.pod_netns import POD_INTERFACE, ip, link, route_device
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent

LIFETIME: Final = 10  # seconds: what is believed after all is gone soon
SETTLE: Final = 1.0
# RFC 3849: documentation addresses, that nobody here has.
DOCUMENTATION: Final = IPv6Network("2001:db8:dead::/48")


@dataclass(frozen=True, slots=True)
class Attacker:
    """A pod, its own addresses and MAC, and the node's end of its veth."""

    name: str
    agent: Agent
    own: IPv6Address
    local: IPv6Address
    mac: str
    gateway: IPv6Address
    node: Agent
    interface: str  # on the node

    @classmethod
    def of(cls, name: str, agent: Agent, node: Agent, own: IPAddress) -> Attacker:
        """Read what is needed of a pod and its node.

        Raises:
            Inconclusive: the pod has no link-local address or no gateway.
        """
        end = link(agent, POD_INTERFACE)
        interface = route_device(node, own)
        here = [held.ip for held in end.of(Family.IPV6, "link")]
        there = [held.ip for held in link(node, interface).of(Family.IPV6, "link")]
        if not here or not there:
            raise Inconclusive(f"{name}: no link-local address on {POD_INTERFACE} or {interface}")
        return cls(
            name, agent, IPv6Address(own), IPv6Address(here[0]), end.mac, IPv6Address(there[0]),
            node, interface,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tables:
    """What a host believes: addresses, routes and neighbours."""

    host: str
    addresses: tuple[IPAddress, ...]
    routes: tuple[dict[str, Any], ...]
    neighbours: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, agent: Agent) -> Tables:
        """As ``ip -6`` tells."""
        return cls(
            agent.name,
            tuple(
                ip_address(a["local"])
                for entry in ip(agent, "-6", "addr", "show")
                for a in entry.get("addr_info", [])
                if "local" in a
            ),
            tuple(ip(agent, "-6", "route", "show", "table", "all")),
            tuple(ip(agent, "-6", "neigh", "show")),
        )

    def gains(self, attacker: Attacker, prefix: IPv6Network) -> list[str]:
        """What the attacker gained here, as sentences."""
        addresses = [a for a in self.addresses if a in prefix]
        found = [f"address {a} of the attacker's prefix" for a in addresses]
        for route in self.routes:
            if route.get("gateway") == str(attacker.local):
                found.append(f"route to {route['dst']} via the attacker on {route.get('dev')}")
            elif route["dst"] != "default" and _inside(route["dst"], prefix):
                found.append(f"route to {route['dst']} of the attacker's prefix")
        mine = {attacker.own, attacker.local}
        found += [
            f"neighbour {entry['dst']} on {entry['dev']} at the attacker's MAC {attacker.mac}"
            for entry in self.neighbours
            if entry.get("lladdr") == attacker.mac and ip_address(entry["dst"]) not in mine
        ]
        return [f"{self.host}: {gain}" for gain in found]


def _inside(text: str, prefix: IPv6Network) -> bool:
    network = ip_network(text, strict=False)
    return isinstance(network, IPv6Network) and network.subnet_of(prefix)


@dataclass(frozen=True, slots=True)
class Attack:
    """One false message, as packets, and in words."""

    words: str
    nonce: Nonce
    packets: tuple[bytes, ...]


def advertisements(attacker: Attacker, victims: Sequence[IPv6Address]) -> list[Attack]:
    """PKT-016: Router Advertisements to everybody on the link, to the node, to other pods.

    The prefix is ``prefix_of`` the attack's nonce's flow.
    """
    targets = [ALL_NODES, attacker.gateway, *victims]
    prefix = prefix_of(attacker)
    return [
        Attack(
            f"Router Advertisement to {target}",
            nonce,
            (
                router_advertisement(
                    attacker.local, target, nonce, mac=attacker.mac, prefix=prefix,
                    seconds=LIFETIME,
                ).data,
            ),
        )
        for target, nonce in zip(targets, Nonce.fresh(len(targets)), strict=True)
    ]  # fmt: skip


_SALT: Final = secrets.randbelow(1 << 16)


def prefix_of(attacker: Attacker) -> IPv6Network:
    """A documentation prefix of this process and attacker."""
    number = (_SALT + int(attacker.own)) % (1 << 16)
    return list(DOCUMENTATION.subnets(new_prefix=64))[number]


def claims(attacker: Attacker, foreign: Sequence[IPv6Address], peer: IPv6Address) -> list[Attack]:
    """PKT-017: false neighbour messages about ``foreign`` addresses, and redirects.

    Args:
        foreign: addresses of other pods and nodes.
        peer: another pod of the node, that is told that the gateway moved.
    """
    mac, local, gateway = attacker.mac, attacker.local, attacker.gateway
    made: list[Attack] = []

    def add(words: str, nonce: Nonce, *packets: bytes) -> None:
        made.append(Attack(words, nonce, packets))

    for claimed in foreign:
        one, two, three, four, five, six = Nonce.fresh(6)
        for target, nonce in ((ALL_NODES, one), (gateway, two)):
            told = neighbour_advertisement(local, target, nonce, claimed=claimed, mac=mac)
            add(f"advertisement of {claimed} to {target}", nonce, told.data)
        asked = neighbour_solicitation(claimed, gateway, three, asked=gateway, mac=mac)
        add(f"solicitation by {claimed}", three, asked.data)
        better = redirect(gateway, gateway, four, destination=claimed, better=local, mac=mac)
        add(f"redirect for {claimed}", four, better.data)
        far = neighbour_advertisement(local, gateway, five, claimed=claimed, mac=mac, hop_limit=254)
        add(f"advertisement of {claimed} with hop limit 254", five, far.data)
        whole = neighbour_advertisement(local, gateway, six, claimed=claimed, mac=mac)
        add(f"advertisement of {claimed} in fragments", six, *in_fragments(whole))
    one, two = Nonce.fresh(2)
    moved = neighbour_advertisement(attacker.own, peer, one, claimed=gateway, mac=mac)
    add(f"advertisement of the gateway to {peer}", one, moved.data)
    way = redirect(gateway, peer, two, destination=foreign[0], better=local, mac=mac)
    add(f"redirect for {foreign[0]} to {peer}", two, way.data)
    return made


def attack(attacker: Attacker, attacks: Sequence[Attack], witnesses: Sequence[Agent]) -> list[str]:
    """Send the attacks and look at what every witness believes, before and after.

    Returns:
        what the attacker gained, as sentences.

    Raises:
        Inconclusive: an attack did not come to the node's end of the veth.
    """
    prefix = prefix_of(attacker)

    def gains(agent: Agent) -> list[str]:
        return Tables.read(agent).gains(attacker, prefix)

    before = on_each(witnesses, gains)
    with capturing_all({attacker.node: [attacker.interface]}, settle=SETTLE) as capture:
        results = attacker.agent.call(
            "send_packets",
            packets=[packet.hex() for one in attacks for packet in one.packets],
            interface=POD_INTERFACE,
            interval=0.001,
        )
    refused = [str(result["error"]) for result in results if not result["sent"]]
    if refused:
        raise Inconclusive(f"{attacker.name}: its kernel refused packets: {listed(refused[:3])}")
    capture.require_complete()
    unseen = [
        one.words for one in attacks if not capture.of(attacker.node, attacker.interface, one.nonce)
    ]
    if unseen:
        raise Inconclusive(f"{attacker.name}: not seen on {attacker.interface}: {listed(unseen)}")
    after = on_each(witnesses, gains)
    return [
        f"{gain} (since before these attacks)" if gain in before[agent] else gain
        for agent in witnesses
        for gain in after[agent]
    ]
