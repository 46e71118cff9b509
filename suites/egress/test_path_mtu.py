"""Paths to the outside with a smaller link: told to the pod, and got over by TCP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from helpers import egress_mtu, path_mtu
from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.icmp_errors import require_open_port
from helpers.model import Family, IPAddress
from helpers.packet_matrix import ways
from helpers.parallel import on_each
from helpers.pod_netns import POD_INTERFACE, link

if TYPE_CHECKING:
    from clusters.api import Cluster

NARROW = (1400, path_mtu.LEAST_MTU)
BULK = 4 << 20
PATIENCE = 20.0  # seconds for 4 MiB; without path MTU discovery they never finish


def test_egr_008_pods_learn_of_smaller_links_outside(
    family: Family, cluster: Cluster, agents: AgentPool, outside: Agent
) -> None:
    """What is too big for a link on the way outside is said to the pod, and TCP gets over it.

    Given: a pod on each node, an address of the outside host behind a link of 1400 and of 1280
        octets that begins at the node; then a router outside that answers Packet Too Big
        (Fragmentation Needed) to what it got, translated or not
    Then: what fits passes and the rest is answered by the node with the link's MTU; 4 MiB over TCP
        finish and the pod's route cache has that MTU; the answer of the router outside comes to
        the pod and quotes the pod's own packet
    Source: RFC 8201 4, RFC 1191 4, RFC 4443 3.2, RFC 5508 4.2
    """
    host = cluster.outside
    if host is None:
        pytest.skip("there is no host outside of the cluster")
    router = host.addresses.require(family)
    found: list[str] = []
    # A pod that has learned of a smaller link remembers it: transfers have a target of their own.
    with _target(agents, outside, family, 0) as taken:
        for mtu in NARROW:
            with _narrowed(agents, taken[0].ends.target, mtu):
                found += _sweep(taken, mtu, family)
    with _target(agents, outside, family, 1) as taken:
        for mtu in NARROW:
            with _narrowed(agents, taken[0].ends.target, mtu):
                for way in taken:
                    found += path_mtu.bulk_findings(way, mtu, BULK, PATIENCE)
    told = on_each(
        agents.pods,
        lambda node: egress_mtu.ask_router(
            agents.pods[node], outside, router, outside.addresses.require(family), NARROW[0]
        ),
    )
    found += [finding for one in told.values() for finding in one.findings()]
    demand_none(found)


@contextmanager
def _target(
    agents: AgentPool, outside: Agent, family: Family, number: int
) -> Iterator[list[ways.Way]]:
    """From the pod of each node to an address that nobody talked to before."""
    with egress_mtu.own_address(outside, family, number=number) as target:
        egress_mtu.settled(agents.pods, target, outside.port)
        require_open_port(agents.pods, target, outside.port)
        every = ways.outside_ways(agents, outside, list(agents.pods), target)
        yield [way for way in every if way.kind == ways.TO_OUTSIDE]


@contextmanager
def _narrowed(agents: AgentPool, target: IPAddress, mtu: int) -> Iterator[None]:
    """A link of ``mtu`` behind every node, towards one address."""
    with ExitStack() as stack:
        for node in agents.nodes.values():
            stack.enter_context(path_mtu.narrowed(node, target, mtu))
        yield


def _sweep(taken: Sequence[ways.Way], mtu: int, family: Family) -> list[str]:
    limits = dict.fromkeys(taken, mtu)
    wanted = [
        (way, size)
        for way in taken
        for size in path_mtu.sizes(mtu, link(way.source, POD_INTERFACE).mtu)
    ]
    return path_mtu.findings(path_mtu.observe(wanted, limits), limits, family)
