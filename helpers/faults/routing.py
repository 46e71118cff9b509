"""Faults of routes and of BGP, which carries them."""

from __future__ import annotations

from typing import Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Command, PodExec
from helpers.faults.common import CALICO_NODE, SYSTEM, nft
from helpers.faults.plans import Plan, plants
from helpers.model import Family

BGP: Final = "tcp dport 179 drop"
BIRD6: Final = "/var/run/calico/bird6.ctl"


def restart_sessions(node: str | None = None) -> PodExec:
    """BIRD6 starts its sessions anew, on one node or all: nothing waits for a hold timer."""
    argv = ("birdcl6", "-s", BIRD6, "restart", '"Mesh_*"')
    return PodExec(
        namespace=SYSTEM, selector=CALICO_NODE, container="calico-node", argv=argv, node=node
    )


@plants("F13")
def bgp_over_ipv6_is_cut(bench: Bench) -> Plan:
    rules = (("input", -10, BGP), ("output", -10, BGP))
    table = nft(bench.worker, Family.IPV6, *rules)
    return Plan([table.model_copy(update={"then": (restart_sessions(),)})])


@plants("RTE-003/stale")
def a_route_without_a_pod(bench: Bench) -> Plan:
    node = bench.worker
    block = bench.blocks(node, Family.IPV6)[0]
    stray = f"{block[-2]}/128"
    return Plan(
        [
            Command(
                node=node,
                do=("ip", "-6", "route", "add", stray, "dev", "eth0", "proto", "static"),
                undo=("ip", "-6", "route", "del", stray, "dev", "eth0", "proto", "static"),
                look=("ip", "-6", "route", "show", stray),
            )
        ]
    )
