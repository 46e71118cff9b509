"""Who a policy opens a pod for: NPOL-002, NPOL-003, NPOL-004."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents import deploy
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.gates import require_node_pairs
from helpers.matrix import Cell
from helpers.model import Family
from helpers.policy.bench import FLOWS, ROLE, Bench, pod_block
from helpers.policy.objects import (
    ANYWHERE,
    agents_of_role,
    block,
    from_peers,
    pods_labelled,
    to_peers,
)
from helpers.policy.table import demand_enforced, table

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_npol_002_selectors_open_for_the_selected_and_nobody_else(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench
) -> None:
    """podSelector and namespaceSelector open a pod for the pods that they select.

    Given: a pod that allows pods of its namespace with one label, and of the agents' namespace
        those with another; and a pod that allows the whole agents' namespace
    Then: over TCP, UDP and echo the selected pods are answered, on the same node and on others;
        pods without the label, pods of the other namespace, nodes and the outside are not
    Source: Kubernetes NetworkPolicy (podSelector, namespaceSelector, and both in one peer)
    """
    require_node_pairs(cluster.state, agents, family)
    labelled, whole = bench.protected, bench.stranger
    peers = {f"second pod on {node}": agent for node, agent in agents.peers.items()}
    steps = [
        step
        for pod in (labelled, whole)
        for step in bench.to_pod({**bench.clients(pod, family), **peers}, pod, family, FLOWS)
    ]
    of_agents = {*peers, *(f"pod on {node}" for node in agents.pods)}
    allowed = {labelled.label: {bench.friend.label, *peers}, whole.label: of_agents}

    friends = pods_labelled(**{ROLE: "friend"})
    demand_enforced(
        table(steps, lambda cell: cell.source in allowed[cell.target]),
        bench.enforced(
            [
                bench.policy(
                    labelled, ingress=[from_peers(friends, agents_of_role(deploy.PEER_AGENTS))]
                ),
                bench.policy(whole, ingress=[from_peers(agents_of_role())]),
            ]
        ),
        "ingress from selected pods",
    )


def test_npol_003_blocks_of_the_other_family_open_nothing(
    family: Family, cluster: Cluster, agents: AgentPool, facts: Facts, bench: Bench
) -> None:
    """An ipBlock opens its own family only.

    Given: three pods that allow: every address of the other family; all pods' addresses of the
        other family; every address of this family
    Then: over this family the first two are closed to everybody, the third is open to everybody
    Source: Kubernetes NetworkPolicy (ipBlock); Calico rules/policy.go (a rule with addresses of
        one family is not rendered for the other)
    """
    require_node_pairs(cluster.state, agents, family)
    any_other, pods_of_other, any_own = bench.stranger, bench.protected, bench.friend
    steps = [
        step
        for pod in (any_other, pods_of_other, any_own)
        for step in bench.to_pod(bench.clients(pod, family), pod, family, FLOWS)
    ]
    others = block(pod_block(facts, family.other))
    demand_enforced(
        table(steps, lambda cell: cell.target == any_own.label),
        bench.enforced(
            [
                bench.policy(any_other, ingress=[from_peers(block(ANYWHERE[family.other]))]),
                bench.policy(pods_of_other, ingress=[from_peers(others)]),
                bench.policy(any_own, ingress=[from_peers(block(ANYWHERE[family]))]),
            ]
        ),
        f"ingress from blocks of {family.other.kubernetes} only",
    )


def test_npol_004_egress_blocks_with_exceptions(
    family: Family, cluster: Cluster, agents: AgentPool, facts: Facts, bench: Bench
) -> None:
    """An egress ipBlock opens its addresses but for its exceptions, and nothing else.

    Given: a pod that may reach all pods' addresses of this family but one pod's, and one that may
        reach all pods' addresses of the other family
    Then: over TCP, UDP and echo the first reaches the other pods, and neither the exception nor
        other nodes nor the outside; the second reaches nobody over this family
    Source: Kubernetes NetworkPolicy (ipBlock.cidr, ipBlock.except)
    """
    require_node_pairs(cluster.state, agents, family)
    client, elsewhere, exception = bench.stranger, bench.protected, bench.friend
    steps = [step for pod in (client, elsewhere) for step in bench.from_pod(pod, family)]
    pods = {f"pod on {node}" for node in agents.pods} | {pod.label for pod in bench.pods}

    def allowed(cell: Cell) -> bool:
        opened = cell.target in pods and cell.target != exception.label
        return cell.source == client.label and opened

    own = block(pod_block(facts, family, client.address(family)), exception.address(family))
    others = block(pod_block(facts, family.other))
    demand_enforced(
        table(steps, allowed),
        bench.enforced(
            [
                bench.policy(client, egress=[to_peers(own)]),
                bench.policy(elsewhere, egress=[to_peers(others)]),
            ]
        ),
        "egress to the pods' addresses but one",
    )
