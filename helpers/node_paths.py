"""Which source address a node must see when a pod calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from helpers.calico import IPPool
from helpers.model import Family, IPAddress
from helpers.parallel import on_each
from helpers.paths import Path, address
from helpers.pod_netns import link, route_device

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts

# FelixConfiguration natOutgoingExclusions (Calico 3.31): node addresses are exempt, too.
HOSTS_EXEMPT = "IPPoolsAndHostIPs"


def masqueraded(
    source: IPAddress, target: IPAddress, pools: Iterable[IPPool], *, hosts_exempt: bool
) -> bool:
    """Whether Calico hides a pod behind its node on the way to another node.

    It does if the pod's pool has natOutgoing and the target is in no pool, enabled or not
    (felix rules/nat.go: sets all-ipam-pools and masq-ipam-pools).
    """
    pools = list(pools)
    nat = any(pool.nat_outgoing and source in pool.cidr for pool in pools)
    in_a_pool = any(target in pool.cidr for pool in pools)
    return nat and not in_a_pool and not hosts_exempt


def expected_sources(
    judged: Iterable[Path], agents: AgentPool, facts: Facts, family: Family
) -> dict[Path, frozenset[IPAddress]]:
    """Source addresses that the target of each pod-to-node path may see."""
    exempt = facts.felix.get("default", {}).get("natOutgoingExclusions") == HOSTS_EXEMPT

    def expected(path: Path) -> frozenset[IPAddress]:
        pod, target = address(path.source, family), address(path.target, family)
        # Packets to the own node never pass postrouting, where masquerading happens.
        if path.within_node or not masqueraded(pod, target, facts.pools, hosts_exempt=exempt):
            return frozenset({pod})
        return outgoing_addresses(agents.nodes[path.nodes[0]], target)

    return on_each(judged, expected)


def outgoing_addresses(agent: Agent, target: IPAddress) -> frozenset[IPAddress]:
    """Addresses that masquerading may choose from: those of the interface towards the target."""
    way = link(agent, route_device(agent, target))
    return frozenset(held.ip for held in way.of(Family.of(target), "global"))
