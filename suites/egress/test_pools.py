"""Which pool hides a pod behind its node, and from whom: EGR-005, EGR-006."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.kube import Kube
from helpers.model import Family
from helpers.node_paths import HOSTS_EXEMPT
from helpers.own_pools import own_pool
from helpers.pool_nat import Hidden, Seen, demand_seen, pods_of_pool, ways_back
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_egr_005_a_pool_with_nat_hides_its_pods_behind_their_nodes(
    family: Family,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    outside: Agent,
    workloads: Workloads,
) -> None:
    """With natOutgoing on at their pool, pods go out as their node, and answers come back.

    Given: an IPv6 pool of the test's own with natOutgoing, and a pod of it on each of two nodes
    Then: the outside sees TCP and UDP of each from an address of its node, and the answers reach
        the pod
    Source: Calico felix dataplane/linux/masq_mgr.go; Calico docs, IPPool natOutgoing
    """
    with (
        own_pool(kube, family, nat_outgoing=True) as pool,
        pods_of_pool(workloads, facts, pool) as pods,
    ):
        target = outside.addresses.require(family)
        demand_seen(
            lambda: [
                Seen.of(pod, agents, facts, outside, target, Hidden.BEHIND_NODE) for pod in pods
            ],
            f"pods of a pool with natOutgoing ({pool.cidr}) are hidden behind their nodes",
        )


def test_egr_006_addresses_of_pools_are_not_hidden_from(
    family: Family,
    cluster: Cluster,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    outside: Agent,
    workloads: Workloads,
) -> None:
    """Who is in any pool, even in a disabled one, sees the pods themselves.

    Given: a pool with natOutgoing and a pod of it on each of two nodes, whose node the outside sees
        at two of its addresses; then a disabled pool that contains one of the two, and routes from
        the outside back to the pods
    Then: at that address the outside sees the pods' own addresses and they get their answers, at
        the other one it goes on seeing the nodes; other nodes see the pod's node as well, unless
        natOutgoingExclusions exempts them
    Source: Calico felix rules/nat.go; Calico docs "Workloads outside of the cluster"
    """
    assert cluster.outside is not None  # the fixture `outside` has skipped the test without one
    inside, beyond = outside.addresses.require(family), cluster.outside.addresses.require(family)
    exempt = facts.felix.get("default", {}).get("natOutgoingExclusions") == HOSTS_EXEMPT

    with (
        own_pool(kube, family, nat_outgoing=True) as pool,
        pods_of_pool(workloads, facts, pool) as pods,
        ways_back(outside, agents, pods, family),
    ):

        def seen(at_inside: Hidden) -> list[Seen]:
            wanted = {inside: at_inside, beyond: Hidden.BEHIND_NODE}
            found = [
                Seen.of(pod, agents, facts, outside, target, hidden)
                for pod in pods
                for target, hidden in wanted.items()
            ]
            at_nodes = Hidden.NOT if exempt else Hidden.BEHIND_NODE
            return found + [
                Seen.of(pod, agents, facts, node, node.addresses.require(family), at_nodes)
                for pod in pods
                for name, node in agents.nodes.items()
                if name != pod.node
            ]

        demand_seen(lambda: seen(Hidden.BEHIND_NODE), "before the second pool everybody sees nodes")
        with own_pool(kube, family, nat_outgoing=False, holding=inside) as second:
            demand_seen(
                lambda: seen(Hidden.NOT),
                f"addresses of the disabled pool {second.cidr} see the pods themselves",
            )
