"""Pods cannot send with a source that is not theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import spoofing
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none, told
from helpers.gates import require_node_pairs
from helpers.model import Family
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_pkt_018_forged_sources_are_dropped_at_the_first_hop(
    family: Family, cluster: Cluster, agents: AgentPool
) -> None:
    """Packets with a source other than the pod's own do not get past its node.

    Given: a pod on every node that sends UDP and echo requests to a pod of its node and to one of
        the next node: first with its own address, seen at the target and between the nodes; then
        with the address of another pod of the node, of a pod of another node, of its node, of
        another node, of the outside, and with loopback, unspecified and multicast addresses,
        seen leaving the pod.
    Then: none of the forged packets is seen at the target or between the nodes.
    Source: Calico anti-spoofing (Felix static.go, RPFilter); RFC 2827; CVE-2020-8558.
    """
    require_node_pairs(cluster.state, agents, family)
    flights = spoofing.observe(agents, family)
    findings = spoofing.spoof_findings(flights)
    demand_none(findings)
    unproven = spoofing.undecided(flights)
    if unproven:
        raise Inconclusive(told(unproven))
