"""Addresses of Services that come from outside of the cluster, and clients who use them there."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from helpers.matrix import Differs, decide
from helpers.model import FAMILIES, Family, IPAddress
from helpers.off_cluster import host_route
from helpers.plan import Answered, Kind, Step, carry_out, expected, folded, plan

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.kube import Kube
    from helpers.workloads import ServiceView

# Documentation ranges (RFC 5737, RFC 9637) that no host of the suite has an address of. Hosts
# from 200 on are fixed ones.
RANGES: Final = {
    Family.IPV4: ip_network("203.0.113.0/24"),
    Family.IPV6: ip_network("3fff:0:51::/64"),
}
DRAWN: Final = range(1, 200)


def drawn_addresses() -> dict[Family, IPAddress]:
    """One address of each family, which most likely no other test uses at this moment."""
    host = secrets.choice(DRAWN)
    four, six = (RANGES[family].network_address for family in FAMILIES)
    return {Family.IPV4: four + host, Family.IPV6: six + (secrets.randbits(32) << 16) + host}


def give_ingress(kube: Kube, service: ServiceView, addresses: Sequence[IPAddress | str]) -> None:
    """Be the load balancer: write the addresses that it would have given to the Service."""
    ingress = [{"ip": str(ip_address(str(a))), "ipMode": "VIP"} for a in addresses]
    kube.patch(
        "v1",
        "Service",
        service.name,
        {"status": {"loadBalancer": {"ingress": ingress}}},
        service.namespace,
        subresource="status",
    )


def demand_reached_through(
    outside: Agent,
    targets: Mapping[str, IPAddress],
    nodes: Mapping[str, IPAddress],
    kinds: Sequence[Kind],
    client: IPAddress,
    hint: str,
) -> None:
    """From outside every target must be reached through every node.

    Args:
        targets: label -> address; the outside is given a route to it via one node after another.
        nodes: name -> InternalIP.
        client: the address that the outside sends from.
        hint: where to look when one is not, for the message.

    Raises:
        AssertionError: one is not.
        Inconclusive: all that are not are probes that did not run.
    """
    steps: list[Step] = []
    answered: list[Answered] = []
    for node, via in nodes.items():
        for label, target in targets.items():
            mine = plan(
                {"outside": outside},
                {f"{label} via {node}": target},
                kinds,
                attempts=2,
                origin={"outside": client},
            )
            with host_route(outside, target, via):
                answered += carry_out(mine)
            steps += mine
    try:
        decide(folded(answered), expected(steps))
    except Differs as error:
        raise Differs(f"{error}\n{hint}", error.observed, error.expected) from None
