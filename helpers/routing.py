"""Whether kernel routes lead to pods as Calico means them (RTE-002, RTE-003).

Pure judgements over one reading of the API and of every node's main routing table. Pods and
blocks come and go while others test: ``Persistent`` keeps what stays wrong over several readings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from helpers.calico import BlockAffinity
from helpers.findings import listed, told
from helpers.model import Family, IPAddress, IPNetwork
from helpers.netstate import CALICO_TUNNELS, NetState, Route
from helpers.views import PodView
from helpers.waiting import eventually

if TYPE_CHECKING:
    from clusters.spec import Encapsulation

# A route is gone, or there, within this many seconds of its pod (RTE-003).
ROUTES_WITHIN: Final = 10.0
TUNNEL_DEVICES: Final = {
    ("ipip", Family.IPV4): "tunl0",
    ("vxlan", Family.IPV4): "vxlan.calico",
    ("vxlan", Family.IPV6): "vxlan-v6.calico",
}


# What is wrong, by the subject that it is wrong with, e.g. (node, block).
Wrong = dict[tuple[str, str], str]


@dataclass(slots=True)
class Persistent:
    """Findings about subjects that were wrong in every reading so far, as last read.

    What is merely on its way drops out; what is wrong in changing ways stays.
    """

    read: Callable[[], Wrong]
    left: Wrong | None = None

    def __call__(self) -> list[str]:
        seen = self.read()
        still = seen.keys() if self.left is None else self.left.keys() & seen.keys()
        self.left = {subject: line for subject, line in seen.items() if subject in still}
        return list(self.left.values())


def demand_right(read: Callable[[], Wrong], what: str) -> None:
    """Read until nothing has been wrong all the time.

    Raises:
        NotSettled: something was wrong in every reading of ``ROUTES_WITHIN`` seconds.
    """
    eventually(
        Persistent(read),
        lambda wrong: not wrong,
        within=ROUTES_WITHIN,
        every=1.0,
        describe=told,
        what=what,
    )


# -- blocks ---------------------------------------------------------------------------------------


def tunnel_device(encapsulation: Encapsulation, family: Family) -> str | None:
    """Device of the routes to other nodes' blocks where the profile encapsulates always.

    None for native routing, and for CrossSubnet: nodes of one subnet route natively there.
    """
    kind, _, where = encapsulation.value.partition("-")
    return None if where else TUNNEL_DEVICES.get((kind, family))


def block_findings(
    family: Family,
    states: Mapping[str, NetState],
    affinities: Iterable[BlockAffinity],
    addresses: Mapping[str, IPAddress | None],
    *,
    device: str | None = None,
) -> Wrong:
    """RTE-002: one route per remote block by its owner's address, a blackhole per own block.

    Args:
        states: network state of each node.
        affinities: blocks with their owners; owners that are no nodes are left out (virtual
            affinities of LoadBalancer addresses, since Calico 3.30).
        addresses: BGP address of each node.
        device: tunnel that the routes go through; None: native, over the interface to the owner.
    """
    blocks = [
        a
        for a in affinities
        if Family.of(a.cidr) is family and a.state == "confirmed" and a.node in addresses
    ]
    found: Wrong = {}
    for node, state in states.items():
        for block in blocks:
            routes = state.to(block.cidr)
            if block.node == node:
                wrong = _own_block(node, block, routes)
            elif len(routes) != 1:
                wrong = _not_one(node, block, routes)
            else:
                wrong = _remote_block(node, block, routes[0], state, addresses, device)
            if wrong:
                found[(node, str(block.cidr))] = wrong
    return found


def _own_block(node: str, block: BlockAffinity, routes: Sequence[Route]) -> str | None:
    # A block of one address has no room for anything else (bird_aggr: no /32, no /128).
    single = block.cidr.prefixlen == block.cidr.max_prefixlen
    if single or [route.kind for route in routes] == ["blackhole"]:
        return None
    return (
        f"{node} has no blackhole for its own block {block.cidr}, but {listed(routes)}: packets to "
        "addresses without a pod leave by the default route and come back; BIRD exports it from "
        "its static protocol, see the log of calico-node there"
    )


def _not_one(node: str, block: BlockAffinity, routes: Sequence[Route]) -> str:
    name = Family.of(block.cidr).kubernetes
    if not routes:
        return (
            f"{node} has no route to the {name} block {block.cidr} of {block.node}: pods on "
            f"{node} do not reach pods there over {name}; look at the BGP sessions of both nodes "
            "(RTE-001) and at Calico's addresses of them (CFG-012)"
        )
    return (
        f"{node} has {len(routes)} routes to the {name} block {block.cidr} of {block.node}: "
        f"{'; '.join(map(str, routes))}; one programmer must own it (BIRD or Felix, setting "
        "programClusterRoutes)"
    )


def _remote_block(
    node: str,
    block: BlockAffinity,
    route: Route,
    state: NetState,
    addresses: Mapping[str, IPAddress | None],
    device: str | None,
) -> str | None:
    owner = addresses[block.node]
    fabric = device or (_device_to(state, owner) if owner else None)
    if len(route.hops) == 1 and route.kind == "unicast":
        (hop,) = route.hops
        # Through a tunnel the next hop is the owner's tunnel address, which is no node address.
        if hop.device == fabric and (device is not None or hop.via == owner):
            return None
    by = f"via {owner or 'its node address, which Calico does not know,'} ({block.node})"
    expected = f"dev {device}" if device else f"{by} dev {fabric}"
    declared = "native routing" if device is None else "encapsulation"
    return (
        f"{node} reaches the {Family.of(block.cidr).kubernetes} block {block.cidr} of "
        f"{block.node} by `{route}`, expected {expected}; the profile requires {declared}: look "
        "at ipipMode and vxlanMode of the IPPools, and at Calico's address of the owner"
    )


def _device_to(state: NetState, address: IPAddress) -> str | None:
    route = state.lookup(address)
    return route.hops[0].device if route else None


# -- pods -----------------------------------------------------------------------------------------


def pod_route_findings(
    family: Family,
    states: Mapping[str, NetState],
    before: Iterable[PodView],
    after: Iterable[PodView],
    networks: Sequence[IPNetwork],
) -> Wrong:
    """RTE-003: a host route on its cali interface for each local pod, and none without a pod.

    Args:
        states: network state of each node, read between ``before`` and ``after``.
        before: all pods; a pod must be in both lists to need a route, in one to be allowed one.
        networks: where pods' addresses of the family come from.
    """
    earlier = _addresses(before, family)
    later = _addresses(after, family)
    found: Wrong = {}
    for node, state in states.items():
        routes: dict[IPAddress, list[Route]] = {}
        for route in state.routes[family]:
            if route.host and route.kind == "unicast":
                routes.setdefault(route.destination.network_address, []).append(route)
        then, now = earlier.get(node, {}), later.get(node, {})
        for address, pod in now.items():
            wrong = _pod_route(node, pod.label, address, routes.get(address, []))
            if wrong and pod.running and then.get(address) == pod:
                found[(node, str(address))] = wrong
        known = {**then, **now}
        for address, theirs in routes.items():
            wrong = _stale(node, theirs)
            if wrong and address not in known and any(address in n for n in networks):
                found[(node, str(address))] = wrong
    return found


@dataclass(frozen=True, slots=True)
class _Holder:
    label: str
    uid: str
    running: bool


def _addresses(pods: Iterable[PodView], family: Family) -> dict[str, dict[IPAddress, _Holder]]:
    """Holders of pod-network addresses, by node. Ended pods hold nothing any more."""
    found: dict[str, dict[IPAddress, _Holder]] = {}
    for pod in pods:
        address = pod.address(family)
        if pod.host_network or pod.node is None or address is None:
            continue
        if pod.phase in ("Pending", "Running"):
            # The network of a pod that is going may be gone while the API still shows it.
            running = pod.phase == "Running" and not pod.deleting
            found.setdefault(pod.node, {})[address] = _Holder(pod.label, pod.uid, running)
    return found


def _pod_route(node: str, label: str, address: IPAddress, routes: Sequence[Route]) -> str | None:
    if len(routes) == 1 and _on_cali(routes[0]):
        return None
    seen = "; ".join(map(str, routes)) or "none"
    return (
        f"{node} has no host route to its pod {label} ({address}) on a cali interface, but "
        f"{seen}: nobody reaches the pod over {Family.of(address).kubernetes}; Felix and the CNI "
        "plugin program it, see the log of calico-node there"
    )


def _stale(node: str, routes: Sequence[Route]) -> str | None:
    # A route through another node is that of a borrowed address: BIRD's, and of no local pod.
    # One on a tunnel is that of another node's end of it: Felix's.
    stale = [
        route
        for route in routes
        if route.hops and route.hops[0].via is None and route.hops[0].device not in CALICO_TUNNELS
    ]
    if not stale:
        return None
    route = stale[0]
    return (
        f"{node} has a stale host route `{route}`, and no pod there has that address: what is "
        f"sent to it is lost; remove it with `ip route del {route.destination} dev "
        f"{route.hops[0].device}` and look for what does not clean up (CNI DEL, Felix)"
    )


def host_route(address: IPAddress) -> IPNetwork:
    """Destination of the route to one address: its /32 or /128."""
    return ip_network(address)


def told_routes(states: Mapping[str, NetState]) -> dict[str, list[str]]:
    """Routing tables as text, for evidence."""
    return {
        node: [str(route) for routes in state.routes.values() for route in routes]
        for node, state in states.items()
    }


def _on_cali(route: Route) -> bool:
    return len(route.hops) == 1 and (route.hops[0].device or "").startswith("cali")
