"""Faults of routes and of BGP, which carries them."""

from __future__ import annotations

from typing import Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Command, PodExec
from helpers.faults.common import CALICO_NODE, SYSTEM, nft
from helpers.faults.plans import Plan, plants_twins
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
    node, ip = bench.worker, ("ip", f"-{family.version}", "route")
    block = bench.blocks(node, family)[0]
    stray = f"{block[-2]}/{family.host_prefix}"
    return Plan(
        [
            Command(
                node=node,
                do=(*ip, "add", stray, "dev", "eth0", "proto", "static"),
                undo=(*ip, "del", stray, "dev", "eth0", "proto", "static"),
                look=(*ip, "show", stray),
            )
        ]
    )
