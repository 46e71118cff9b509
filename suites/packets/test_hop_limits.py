"""Hop limits (TTLs) fall as the number of nodes on the way says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import hop_limits, paths
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.gates import blocked_node_pairs
from helpers.model import Family

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_pkt_011_hop_limit_falls_by_the_nodes_passed(
    family: Family, cluster: Cluster, agents: AgentPool
) -> None:
    """The hop limit falls by 1 between pods of one node and by 2 between pods of two nodes.

    Given: two pods on every node, and UDP packets built with a known hop limit, each found by its
        nonce in the receiving pod.
    Then: it arrived with exactly 1 less within a node and 2 less between nodes.
    Source: RFC 8200 3, RFC 791 3.2; Calico routes pod traffic on each node.
    """
    cut = blocked_node_pairs(cluster.state, agents, family)
    ways = [
        *paths.within_nodes(agents),
        *paths.undisturbed(paths.between_nodes(agents), cut, family),
    ]
    arrivals = hop_limits.observe(ways, family)
    hop_limits.require_arrived(arrivals)
    findings = hop_limits.hop_findings(arrivals)
    demand_none(findings)
