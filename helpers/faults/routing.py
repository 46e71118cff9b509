"""Faults of routes and of BGP, which carries them."""

from __future__ import annotations

from typing import Final

from helpers.encapsulation import VXLAN_DEVICE
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Command, Frozen, PodExec, Restart
from helpers.faults.common import CALICO_NODE, SYSTEM, nft, pool
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.model import Family

BGP: Final = "tcp dport 179 drop"
SOCKETS: Final = {
    Family.IPV4: ("birdcl", "/var/run/calico/bird.ctl"),
    Family.IPV6: ("birdcl6", "/var/run/calico/bird6.ctl"),
}


def restart_sessions(family: Family) -> PodExec:
    """BIRD starts its sessions anew on all nodes: nothing waits for a hold timer."""
    program, socket = SOCKETS[family]
    argv = (program, "-s", socket, "restart", '"Mesh_*"')
    return PodExec(namespace=SYSTEM, selector=CALICO_NODE, container="calico-node", argv=argv)


@plants_twins("F13", "RTE-001/bgp-ipv4")
def bgp_is_cut(bench: Bench, family: Family) -> Plan:
    table = nft(bench.worker, family, ("input", -10, BGP), ("output", -10, BGP))
    return Plan([table.model_copy(update={"then": (restart_sessions(family),)})])


@plants_twins("RTE-003/stale", "RTE-003/stale-ipv4")
def a_route_without_a_pod(bench: Bench, family: Family) -> Plan:
    block = bench.blocks(bench.worker, family)[0]
    stray = f"{block[-2]}/{family.host_prefix}"
    return Plan([_route(bench.worker, family, stray, "dev", "eth0")])


@plants_twins("RTE-004/static", "RTE-004/static-ipv4")
def a_route_to_one_address_of_the_pool(bench: Bench, family: Family) -> Plan:
    """The last address of the pool: it belongs to no block."""
    stray = f"{bench.cluster.spec.pod_cidrs.of(family)[-1]}/{family.host_prefix}"
    return Plan([_route(bench.worker, family, stray, "dev", "eth0")])


@plants_twins("RTE-005/second", "RTE-005/second-ipv4")
def a_second_route_to_a_block(bench: Bench, family: Family) -> Plan:
    peer = bench.pair[0]
    block, via = str(bench.blocks(peer, family)[0]), bench.address(peer, family)
    return Plan([_route(bench.worker, family, block, "via", via, "metric", "2048")])


def _route(node: str, family: Family, destination: str, *words: str) -> Command:
    """A route that nobody of the cluster made."""
    ip = ("ip", f"-{family.version}", "route")
    return Command(
        node=node,
        do=(*ip, "add", destination, *words, "proto", "static"),
        undo=(*ip, "del", destination, *words, "proto", "static"),
        look=(*ip, "show", destination, "proto", "static"),
    )


# -- encapsulation ---------------------------------------------------------------------------------


@plants_twins("CONN-007/native", "CONN-007/native-ipv4")
def the_pool_encapsulates_no_more(_: Bench, family: Family) -> Plan:
    """calico-node starts anew: without it Calico 3.31 does not take IPv6 into VXLAN again.

    It gives the nodes IPv4 tunnel addresses as soon as the pool encapsulates again, and IPv6 ones
    when calico-node starts; until then Felix says "parent interface not yet known".
    """
    return Plan([pool(family, Restart(namespace=SYSTEM, selector=CALICO_NODE), vxlanMode="Never")])


@plants("RTE-006/forwarding")
def no_forwarding_entry_for_a_peer(bench: Bench) -> Plan:
    """Felix would repair it, so it stands still meanwhile."""
    node, peer = bench.worker, bench.address(bench.pair[0], Family.IPV6)
    show = f"bridge fdb show dev {VXLAN_DEVICE} | grep -w {peer}"
    found = bench.shell(node, show, check=False).split()
    if not found:
        raise FaultError(f"{node} has no forwarding entry for {peer}")
    entry = (found[0], "dev", VXLAN_DEVICE, "dst", peer, "self")
    return Plan(
        [
            Frozen(node=node, command="calico-node"),
            Command(
                node=node,
                do=("bridge", "fdb", "del", *entry),
                undo=("bridge", "fdb", "replace", *entry, "permanent"),
                look=("sh", "-c", show),
            ),
        ]
    )
