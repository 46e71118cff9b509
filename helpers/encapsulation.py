"""Pod packets between nodes where the profile encapsulates them, and the devices that do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING, Final

from helpers.fabric import TUNNELS, Crossing, Outer
from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.pod_netns import ip
from helpers.routing import TUNNEL_DEVICES
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from clusters.spec import Encapsulation
    from helpers.agents.client import Agent

IPIP: Final = TUNNELS[4]
VXLAN: Final = "VXLAN"
VXLAN_DEVICE: Final = TUNNEL_DEVICES["vxlan", Family.IPV6]
TUNNEL_ADDRESS: Final = "projectcalico.org/IPv6VXLANTunnelAddr"  # annotation of a Node
GONE: Final = frozenset({"FAILED", "INCOMPLETE"})


# -- on the wire ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What the profile promises of packets from one node to another."""

    encapsulation: Encapsulation
    nodes: Mapping[str, IPv4Interface | IPv6Interface]  # Calico's own view, with prefix length

    def tunnel(self, crossing: Crossing) -> str | None:
        """Name of the tunnel that a frame must be in, None for native."""
        ends = [self.nodes[node] for node in crossing.path.nodes]
        mode = self.encapsulation
        across = "CrossSubnet" in (mode.ipip_mode, mode.vxlan_mode)
        if across and ends[0].network == ends[1].network:
            return None
        return IPIP if mode.ipip_mode != "Never" else VXLAN


def wrapping_findings(crossings: Iterable[Crossing], promised: Wrapping) -> list[str]:
    """CONN-007: node to node in the same family where encapsulated, native where not.

    Source: Calico felix vxlan_mgr.go; Calico docs "Overlay networking".
    """
    found = []
    for crossing in crossings:
        wanted = promised.tunnel(crossing)
        a, b = crossing.path.nodes
        ends = (promised.nodes[a].ip, promised.nodes[b].ip)
        own = (crossing.source, crossing.target)
        for frame in sorted(set(crossing.frames), key=str):
            wrong = _wrong(frame, wanted, own if wanted is None else ends)
            if wrong:
                family = Family.of(crossing.source).kubernetes
                found.append(
                    f"{family} packets of pods from {a} to {b}: {wrong}; the profile declares "
                    f"{promised.encapsulation.value}: compare ipipMode and vxlanMode of the IPPool"
                )
        if not crossing.frames:
            found.append(
                f"pod packets from {a} to {b} are not seen between the nodes "
                f"({crossing.flow} at the target): no route leads to {b}'s pods; without BGP only "
                "pools that encapsulate have routes"
            )
    return found


def _wrong(frame: Outer, wanted: str | None, ends: tuple[IPAddress, IPAddress]) -> str | None:
    tunnel = frame.tunnel
    if (tunnel or "").split(" ")[0] != (wanted or "").split(" ")[0]:
        return f"in {tunnel or 'no tunnel'}, expected {wanted or 'none'}"
    if (frame.source, frame.target) != ends:
        return (
            f"outer header from {frame.source} to {frame.target}, expected from {ends[0]} to "
            f"{ends[1]}"
        )
    return None


# -- the device of IPv6 VXLAN ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VxlanDevice:
    """A node's VXLAN device for IPv6.

    Attributes:
        addresses: global IPv6 addresses on it; None: there is no such device.
        forwarding: MAC -> node address that frames for it are sent to (bridge fdb).
        neighbours: tunnel address -> MAC.
    """

    addresses: tuple[IPAddress, ...] | None
    forwarding: Mapping[str, IPAddress]
    neighbours: Mapping[IPAddress, str]


def vxlan_device(node: Agent) -> VxlanDevice:
    """Read the device with ip(8) and bridge(8).

    Raises:
        Inconclusive: a tool is missing.
    """
    links = [entry["ifname"] for entry in ip(node, "link", "show", "type", "vxlan")]
    if VXLAN_DEVICE not in links:
        return VxlanDevice(None, {}, {})
    entries = ip(node, "-6", "addr", "show", "dev", VXLAN_DEVICE, "scope", "global")
    forwarding = _bridge(node)
    return VxlanDevice(
        addresses=tuple(
            ip_address(a["local"]) for e in entries for a in e.get("addr_info", []) if "local" in a
        ),
        forwarding=forwarding,
        neighbours={
            ip_address(n["dst"]): n["lladdr"]
            for n in ip(node, "-6", "neigh", "show", "dev", VXLAN_DEVICE)
            if "lladdr" in n and not GONE & set(n.get("state", []))
        },
    )


def _bridge(node: Agent) -> dict[str, IPAddress]:
    # bridge's own JSON has changed its keys between releases; its words have not.
    done = node.call_one("run", argv=["bridge", "fdb", "show", "dev", VXLAN_DEVICE])
    if done["rc"] != 0:
        raise Inconclusive(f"{node.name}: bridge fdb show: {done['stderr'].strip()}")
    found = {}
    for line in done["stdout"].splitlines():
        words = line.split()
        if "dst" in words:
            found[words[0]] = ip_address(words[words.index("dst") + 1])
    return found


def vxlan_findings(
    devices: Mapping[str, VxlanDevice],
    tunnel_addresses: Mapping[str, IPAddress | None],
    node_addresses: Mapping[str, IPAddress],
) -> list[str]:
    """RTE-006: an address on the device, and for each peer where its frames go.

    Args:
        tunnel_addresses: what Calico gave each node, None where it gave none.
        node_addresses: the nodes' IPv6 addresses, the outer targets.
    """
    found = []
    for node, device in devices.items():
        own = tunnel_addresses[node]
        if device.addresses is None:
            found.append(f"{node} has no device {VXLAN_DEVICE}: its pods' IPv6 packets stay there")
            continue
        if own is None or own not in device.addresses:
            found.append(
                f"{node}: {VXLAN_DEVICE} has {listed(device.addresses)}, Calico gave it "
                f"{own or 'no tunnel address'}: packets of the node itself have no source there"
            )
        for peer, address in node_addresses.items():
            if peer == node:
                continue
            at = tunnel_addresses[peer]
            mac = device.neighbours.get(at) if at is not None else None
            to = device.forwarding.get(mac or "")
            if mac is None:
                found.append(
                    f"{node}: no neighbour entry on {VXLAN_DEVICE} for {peer} "
                    f"({at or 'which has no tunnel address'}): Felix has not programmed the peer"
                )
            elif to != address:
                found.append(
                    f"{node}: frames for {peer} ({mac}) are sent to {to or 'nobody'}, expected "
                    f"{address}: its entry in `bridge fdb show dev {VXLAN_DEVICE}` is missing or "
                    "wrong; Felix repairs it when it runs"
                )
    return found
