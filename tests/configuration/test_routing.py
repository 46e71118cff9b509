"""Kernel routes: RTE-002, RTE-003."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from clusters.spec import Encapsulation
from helpers import bird, routing
from helpers.calico import BlockAffinity
from helpers.departure import Departure, departure_findings
from helpers.model import FAMILIES, Family, IPAddress
from helpers.netstate import NetState
from helpers.views import NodeView, PodView

Recorded = Callable[[str], Any]
IPV4, IPV6 = FAMILIES
POOLS = {
    IPV4: [ip_network("10.244.0.0/16")],
    IPV6: [ip_network("fd00:10:244::/56")],
}


def edited(
    recorded: Recorded, node: str, family: Family, edit: Callable[[list[dict[str, Any]]], Any]
) -> dict[str, NetState]:
    """The recorded tables with those of one node and family changed in place."""
    raw = recorded("states.json")
    edit(raw[node][f"routes{family.version}"])
    return {name: NetState.from_facts(facts) for name, facts in raw.items()}


def owned(affinities: list[BlockAffinity], node: str, family: Family) -> BlockAffinity:
    return next(a for a in affinities if a.node == node and Family.of(a.cidr) is family)


# -- blocks ---------------------------------------------------------------------------------------


@pytest.fixture
def addresses(nodes: list[NodeView]) -> dict[Family, dict[str, IPAddress | None]]:
    return {family: bird.bgp_addresses(nodes, family) for family in FAMILIES}


Addresses = dict[Family, dict[str, IPAddress | None]]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_block_routes_are_good(
    states: dict[str, NetState],
    affinities: list[BlockAffinity],
    addresses: Addresses,
    family: Family,
) -> None:
    assert routing.block_findings(family, states, affinities, addresses[family]) == {}


def test_rte_002_the_blocks_of_a_node_are_not_routed(
    recorded: Recorded, affinities: list[BlockAffinity], addresses: Addresses
) -> None:
    """A node without an IPv6 address in Calico, seen from another one."""
    block = owned(affinities, "worker2", IPV6)

    def forget(routes: list[dict[str, Any]]) -> None:
        routes[:] = [route for route in routes if route["dst"] != str(block.cidr)]

    states = edited(recorded, "worker", IPV6, forget)
    found = routing.block_findings(IPV6, states, affinities, addresses[IPV6])
    assert list(found) == [("worker", str(block.cidr))]
    (sentence,) = found.values()
    assert sentence.startswith(f"worker has no route to the IPv6 block {block.cidr} of worker2")
    assert "RTE-001" in sentence
    assert routing.block_findings(IPV4, states, affinities, addresses[IPV4]) == {}


def test_rte_002_the_route_goes_through_a_tunnel(
    recorded: Recorded, affinities: list[BlockAffinity], addresses: Addresses
) -> None:
    block = owned(affinities, "worker2", IPV6)

    def tunnel(routes: list[dict[str, Any]]) -> None:
        route = next(route for route in routes if route["dst"] == str(block.cidr))
        route.update(dev="vxlan-v6.calico", gateway="fd00:10:244:14::1", protocol="80")

    states = edited(recorded, "worker", IPV6, tunnel)
    (sentence,) = routing.block_findings(IPV6, states, affinities, addresses[IPV6]).values()
    assert f"worker reaches the IPv6 block {block.cidr} of worker2 by" in sentence
    assert "expected via fd00:10:243::4 (worker2) dev eth0" in sentence
    assert "the profile requires native routing" in sentence
    # Where the profile wants VXLAN, that one route is right and all the native ones are wrong.
    device = routing.tunnel_device(Encapsulation.VXLAN, IPV6)
    vxlan = routing.block_findings(IPV6, states, affinities, addresses[IPV6], device=device)
    assert ("worker", str(block.cidr)) not in vxlan
    assert len(vxlan) == 5


def test_rte_002_two_programmers(
    recorded: Recorded, affinities: list[BlockAffinity], addresses: Addresses
) -> None:
    block = owned(affinities, "worker2", IPV6)
    twin = {"dst": str(block.cidr), "gateway": "fd00:10:243::4", "dev": "eth0", "metric": 512}
    states = edited(recorded, "worker", IPV6, lambda routes: routes.append(twin))
    (sentence,) = routing.block_findings(IPV6, states, affinities, addresses[IPV6]).values()
    assert sentence.startswith("worker has 2 routes to the IPv6 block")


def test_rte_002_by_another_node(
    recorded: Recorded, affinities: list[BlockAffinity], addresses: Addresses
) -> None:
    block = owned(affinities, "worker2", IPV4)

    def detour(routes: list[dict[str, Any]]) -> None:
        next(r for r in routes if r["dst"] == str(block.cidr))["gateway"] = "10.243.0.2"

    states = edited(recorded, "worker", IPV4, detour)
    (sentence,) = routing.block_findings(IPV4, states, affinities, addresses[IPV4]).values()
    assert "via 10.243.0.2 dev eth0" in sentence


@pytest.mark.parametrize("family", FAMILIES)
def test_rte_002_no_blackhole_for_the_own_block(
    recorded: Recorded, affinities: list[BlockAffinity], addresses: Addresses, family: Family
) -> None:
    def forget(routes: list[dict[str, Any]]) -> None:
        routes[:] = [route for route in routes if route.get("type") != "blackhole"]

    states = edited(recorded, "worker", family, forget)
    (sentence,) = routing.block_findings(family, states, affinities, addresses[family]).values()
    assert "worker has no blackhole for its own block" in sentence


def test_blocks_that_need_no_route(
    states: dict[str, NetState], affinities: list[BlockAffinity], addresses: Addresses
) -> None:
    """Blocks that are being claimed, of LoadBalancers, and of one address of a node itself."""
    others = [
        BlockAffinity(ip_network("10.244.99.0/26"), "worker", "pending"),
        BlockAffinity(ip_network("10.244.98.0/26"), "load-balancer", "confirmed"),
    ]
    found = routing.block_findings(IPV4, states, [*affinities, *others], addresses[IPV4])
    assert found == {}
    single = BlockAffinity(ip_network("10.244.97.1/32"), "worker", "confirmed")
    found = routing.block_findings(IPV4, states, [*affinities, single], addresses[IPV4])
    assert set(found) == {("control-plane", "10.244.97.1/32"), ("worker2", "10.244.97.1/32")}


def test_devices_of_declared_encapsulation() -> None:
    assert routing.tunnel_device(Encapsulation.NONE, IPV6) is None
    assert routing.tunnel_device(Encapsulation.VXLAN_CROSS_SUBNET, IPV6) is None
    assert routing.tunnel_device(Encapsulation.VXLAN, IPV6) == "vxlan-v6.calico"
    assert routing.tunnel_device(Encapsulation.IPIP, IPV4) == "tunl0"


# -- pods -----------------------------------------------------------------------------------------


def pod_routes(
    states: dict[str, NetState],
    before: list[PodView],
    after: list[PodView],
    family: Family = IPV6,
) -> routing.Wrong:
    return routing.pod_route_findings(family, states, before, after, POOLS[family])


def local_pod(pods: list[PodView], node: str) -> PodView:
    return next(pod for pod in pods if pod.node == node and not pod.host_network)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_host_routes_are_good(
    states: dict[str, NetState], pods: list[PodView], family: Family
) -> None:
    assert pod_routes(states, pods, pods, family) == {}


def test_rte_003_a_stale_route(recorded: Recorded, pods: list[PodView]) -> None:
    dead = {"dst": "fd00:10:244:c5::dead", "dev": "eth0", "protocol": "static", "metric": 1024}
    states = edited(recorded, "worker", IPV6, lambda routes: routes.append(dead))
    found = pod_routes(states, pods, pods)
    assert list(found) == [("worker", "fd00:10:244:c5::dead")]
    (sentence,) = found.values()
    assert sentence.startswith(
        "worker has a stale host route `fd00:10:244:c5::dead/128 dev eth0 proto static`"
    )
    assert pod_routes(states, pods, pods, IPV4) == {}


def test_routes_of_others_are_not_stale(recorded: Recorded, pods: list[PodView]) -> None:
    """Borrowed addresses, ends of tunnels, and what is in no pool are no local pod's."""

    def add(routes: list[dict[str, Any]]) -> None:
        routes.append({"dst": "fd00:10:244:c5::77", "gateway": "fd00:10:243::4", "dev": "eth0"})
        routes.append({"dst": "fd00:10:244:14::d4", "dev": "vxlan-v6.calico"})
        routes.append({"dst": "2001:db8::1", "dev": "eth0"})

    assert pod_routes(edited(recorded, "worker", IPV6, add), pods, pods) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_rte_003_a_pod_without_its_route(
    recorded: Recorded, pods: list[PodView], family: Family
) -> None:
    pod = local_pod(pods, "worker")

    def forget(routes: list[dict[str, Any]]) -> None:
        routes[:] = [r for r in routes if r["dst"] != str(pod.address(family))]

    states = edited(recorded, "worker", family, forget)
    found = pod_routes(states, pods, pods, family)
    assert list(found) == [("worker", str(pod.address(family)))]
    (sentence,) = found.values()
    assert f"no host route to its pod {pod.label} ({pod.address(family)})" in sentence
    # A pod that came, went or ended between the readings proves nothing about its route.
    gone = [other for other in pods if other.uid != pod.uid]
    for before, after in (
        (gone, pods),
        (pods, gone),
        (pods, [*gone, replace(pod, deleting=True)]),
        (pods, [*gone, replace(pod, phase="Succeeded")]),
    ):
        assert pod_routes(states, before, after, family) == {}


def test_rte_003_a_route_on_another_interface(recorded: Recorded, pods: list[PodView]) -> None:
    pod = local_pod(pods, "worker")

    def move(routes: list[dict[str, Any]]) -> None:
        next(r for r in routes if r["dst"] == str(pod.address(IPV6)))["dev"] = "eth0"

    found = pod_routes(edited(recorded, "worker", IPV6, move), pods, pods)
    assert len(found) == 1


def test_rte_003_the_route_of_an_ended_pod_is_stale(
    states: dict[str, NetState], pods: list[PodView]
) -> None:
    pod = local_pod(pods, "worker")
    ended = [replace(p, phase="Succeeded") if p.uid == pod.uid else p for p in pods]
    assert list(pod_routes(states, ended, ended)) == [("worker", str(pod.address(IPV6)))]


def test_what_is_on_its_way_drops_out_and_what_stays_wrong_stays() -> None:
    readings = iter(
        [
            {("a", "1"): "none", ("a", "2"): "none"},
            {("a", "2"): "two routes", ("b", "3"): "none"},
            {("b", "3"): "none"},
        ]
    )
    persistent = routing.Persistent(lambda: next(readings))
    assert persistent() == ["none", "none"]
    assert persistent() == ["two routes"]
    assert persistent() == []


def test_rte_003_what_is_left_of_a_deleted_pod() -> None:
    route = "fd00:10:244:c5::7/128 dev cali1"
    gone = Departure("ns/p", "worker", ip_address("fd00:10:244:c5::7"), (route,), (), 0.4)
    assert departure_findings(gone) == []
    (found,) = departure_findings(replace(gone, after=(route,), seconds=None))
    assert found.startswith(f"10 s after pod ns/p was deleted worker still has `{route}`")
    (found,) = departure_findings(replace(gone, before=()))
    assert found == "worker has no host route to its new, Ready pod ns/p (fd00:10:244:c5::7)"
