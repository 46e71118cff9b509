"""Pods reach pods: CONN-001, 002, 003, 005."""

from __future__ import annotations

import pytest

from clusters.api import Cluster
from helpers import gates, paths
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.matrix import Matrix, decide
from helpers.model import Family, Protocol

ONE_NODE = "the cluster has one node, so there is no pair of nodes"


def test_conn_001_pods_of_one_node_reach_each_other(agents: AgentPool, family: Family) -> None:
    """Two pods of the same node talk over TCP and UDP.

    Given: two pods on each node
    Then: each of the two gets its echo from the other one, over TCP and over UDP
    Source: Calico 3.11's dual-stack announcement
    """
    seen = paths.observe(paths.within_nodes(agents), family, paths.FLOWS)

    decide(Matrix.observed(seen.items()), Matrix.expecting(seen))


def test_conn_002_pods_of_every_node_pair_reach_each_other(
    cluster: Cluster, agents: AgentPool, family: Family
) -> None:
    """Pods on different nodes talk over TCP and UDP, whichever node begins.

    Given: a pod on each node, node pairs that reach each other
    Then: over every ordered pair of nodes TCP and UDP echo come back, and all of 20 one-way
        datagrams arrive
    Source: Kubernetes e2e dual_stack.go "able to reach pod on ipv4 and ipv6"
    """
    every = paths.between_nodes(agents)
    if not every:
        pytest.skip(ONE_NODE)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    judged = paths.undisturbed(every, cut, family)

    seen = paths.observe(judged, family, paths.FLOWS) | paths.observe_one_way(judged, family)

    decide(Matrix.observed(seen.items()), Matrix.expecting(seen))
    gates.require_node_pairs(cluster.state, agents, family)


def test_conn_003_pods_answer_ping(cluster: Cluster, agents: AgentPool, family: Family) -> None:
    """ICMP echo (ICMPv6 for IPv6) works between pods.

    Given: two pods on each node, node pairs that reach each other
    Then: an echo comes back within each node and over every ordered pair of nodes
    Source: Calico 3.11's dual-stack announcement (native, no translation)
    """
    every = paths.within_nodes(agents) + paths.between_nodes(agents)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)

    seen = paths.observe(paths.undisturbed(every, cut, family), family, [Protocol.ICMP])

    decide(Matrix.observed(seen.items()), Matrix.expecting(seen))
    gates.require_node_pairs(cluster.state, agents, family)


def test_conn_005_receivers_see_the_senders_own_address(
    cluster: Cluster, agents: AgentPool, family: Family
) -> None:
    """Nobody translates addresses between pods.

    Given: two pods on each node that reach each other
    Then: over TCP and UDP, within each node and over every ordered pair of nodes, the receiver
        sees the sender's pod address as source
    Source: Calico 3.11's dual-stack announcement; KEP-563
    """
    every = paths.within_nodes(agents) + paths.between_nodes(agents)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    wanted = [
        (path, paths.probe(path, family, protocol))
        for path in paths.undisturbed(every, cut, family)
        for protocol in paths.FLOWS
    ]
    own = {path: frozenset({paths.address(path.source, family)}) for path, _ in wanted}

    observations = paths.run(wanted)
    seen = [(path, o) for (path, _), o in zip(wanted, observations, strict=True)]

    found = paths.source_findings(
        seen, own, "look for masquerade rules on the sender's node, Calico has none between pools"
    )
    demand_none(found)
    paths.require_reached([(p, o) for p, o in seen if p.within_node], "CONN-001")
    paths.require_reached(seen, "CONN-002")
    gates.require_node_pairs(cluster.state, agents, family)
