"""What no policy takes from a pod and its own node: NPOL-006, NPOL-007."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.model import Family
from helpers.policy.bench import FLOWS, NAME, Bench
from helpers.policy.node import (
    asked_by_kubelet,
    demand_probed,
    forget_neighbours,
    neighbour_findings,
    seen_once,
)
from helpers.policy.objects import from_peers, pods_labelled, to_peers
from helpers.policy.table import held, require_open, settled, table
from helpers.verdicts import Inconclusive
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

FLUSHES: Final = 3
NDP_HINT: Final = (
    "after a flush the pod and its node must resolve each other again: neighbour solicitations and "
    "advertisements between them are not for policy to drop (Calico allows ICMPv6 types 130 to "
    "133, 135 and 136)"
)


def test_npol_006_neighbour_discovery_works_under_deny_all(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench
) -> None:
    """A pod under deny-all finds its gateway, and its node finds it.

    Given: a pod that may exchange packets with one other pod only, in both directions, and whose
        neighbour entries are flushed, its own and those of its node's end of the veth
    Then: TCP, UDP and echo with that pod open at the first attempt after each flush, both ways;
        everybody else stays shut out, and the gateway is resolved again
    Source: Calico felix rules/static.go (ICMPv6Filter); RFC 4861
    """
    require_node_pairs(cluster.state, agents, family)
    pod, friend = bench.protected, bench.friend
    node = agents.nodes[pod.node]
    pod.agent.require("net_admin")
    steps = bench.to_pod(bench.clients(pod, family), pod, family, FLOWS)
    steps += bench.from_pod(pod, family)
    truth = table(steps, lambda cell: friend.label in (cell.source, cell.target))
    try:
        require_open(truth)
    except Inconclusive:
        findings = neighbour_findings(pod, node, family)
        demand_none(findings)
        raise

    only = pods_labelled(**{NAME: friend.name})
    policy = bench.policy(pod, ingress=[from_peers(only)], egress=[to_peers(only)])
    with bench.enforced([policy]):
        settled(truth, "deny-all but for one pod")
        for _ in range(FLUSHES):
            forget_neighbours(pod, node, family)
            seen_once(truth, NDP_HINT)
            findings = neighbour_findings(pod, node, family)
            demand_none(findings)


def test_npol_007_the_own_node_is_never_kept_out(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench, workloads: Workloads
) -> None:
    """The node of a pod and its kubelet reach it under deny-all; other nodes do not.

    Given: a pod under deny-all in both directions, and on the same node a pod whose readiness is
        kubelet's TCP probe of the first one's address of this family
    Then: kubelet's probe succeeds and goes on succeeding; TCP, UDP and echo from the node itself
        are answered; pods of the same node, other nodes and the outside are kept out
    Source: Kubernetes NetworkPolicy (traffic from the own node is always allowed); Calico felix
        rules/static.go
    """
    require_node_pairs(cluster.state, agents, family)
    pod = bench.protected
    own = {f"node {pod.node}": agents.nodes[pod.node]}
    others = table(bench.to_pod(bench.clients(pod, family), pod, family, FLOWS), lambda _: False)
    truth = others | table(bench.to_pod(own, pod, family, FLOWS), lambda _: True)
    require_open(others)

    with bench.enforced([bench.policy(pod, ingress=[], egress=[])]):
        asker = workloads.create_pod(pod.node, mutate=asked_by_kubelet(pod.address(family)))
        what = "deny-all; the node's own packets are no policy's to drop"
        settled(truth, what)
        held(truth, what)
        demand_probed(workloads, asker, pod, truth)
