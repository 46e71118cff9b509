"""Calico's own rules for one family: NPOL-009."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.gates import require_node_pairs
from helpers.matrix import Cell
from helpers.model import FAMILIES, Family
from helpers.policy.bench import FLOWS, NAME, Bench
from helpers.policy.objects import global_policy, in_namespace
from helpers.policy.packets import NODE_INFORMATION_QUERY, icmpv6, packet_table
from helpers.policy.table import demand_enforced, table

if TYPE_CHECKING:
    from clusters.api import Cluster

ORDER = 10.0
ECHO_REQUEST = 128
NO_PODS = ("node ", "outside")  # how the labels of other clients begin
QUERY = f"icmpv6 type {NODE_INFORMATION_QUERY}"


def test_npol_009_rules_of_one_family_leave_the_other_alone(
    cluster: Cluster, agents: AgentPool, bench: Bench
) -> None:
    """What a Calico rule says of one family it says of that one only.

    Given: three pods with a GlobalNetworkPolicy each that allows: ICMPv6 of type 128; everything
        of ipVersion 6; sources that are not IPv4 addresses of pods (notNets of IPv4 only)
    Then: the first answers IPv6 echo, but no IPv4 echo, no TCP or UDP, and no other type of ICMPv6
        reaches it; the second is open over IPv6 and closed over IPv4; the third is closed to pods
        over IPv4, open to others over IPv4, and closed to everybody over IPv6
    Source: Calico felix rules/policy.go (FilterRuleToIPVersion, filterNets)
    """
    for family in FAMILIES:
        require_node_pairs(cluster.state, agents, family)
    echo_only, ipv6_only, not_ipv4_pods = bench.protected, bench.stranger, bench.friend
    steps = [
        step
        for pod in (echo_only, ipv6_only, not_ipv4_pods)
        for family in FAMILIES
        for step in bench.to_pod(bench.clients(pod, family), pod, family, FLOWS)
    ]

    def allowed(cell: Cell) -> bool:
        over_ipv6 = cell.family is Family.IPV6
        if cell.target == echo_only.label:
            return over_ipv6 and cell.detail == "echo"
        if cell.target == ipv6_only.label:
            return over_ipv6
        return not over_ipv6 and cell.source.startswith(NO_PODS)

    sender = bench.stranger
    other_types = packet_table(
        {sender.label: (sender.agent, sender.address(Family.IPV6))},
        echo_only,
        Family.IPV6,
        {QUERY: icmpv6(NODE_INFORMATION_QUERY)},
        lambda _: False,
    )
    # One by one: with encapsulation other nodes call from an address of the pods' block too.
    pods_of_ipv4 = [
        f"{agent.addresses.require(Family.IPV4)}/32"
        for name, agent in bench.clients(not_ipv4_pods, Family.IPV4).items()
        if not name.startswith(NO_PODS)
    ]
    rules = {
        echo_only: {"action": "Allow", "protocol": "ICMPv6", "icmp": {"type": ECHO_REQUEST}},
        ipv6_only: {"action": "Allow", "ipVersion": 6},
        not_ipv4_pods: {"action": "Allow", "source": {"notNets": pods_of_ipv4}},
    }
    policies = [
        global_policy(
            bench.fresh_name(),
            in_namespace(bench.namespace, NAME, pod.name),
            order=ORDER,
            ingress=[rule],
        )
        for pod, rule in rules.items()
    ]
    demand_enforced(
        table(steps, allowed) | other_types,
        bench.enforced(policies),
        "Calico rules of one family",
    )
