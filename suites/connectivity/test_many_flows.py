"""Many flows at once, other transports, and listeners of one family: CONN-004, 010, 013."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from helpers import gates, paths
from helpers.agents.pool import AgentPool
from helpers.listeners import flows_to, listening
from helpers.matrix import Matrix, decide
from helpers.model import Family, Protocol
from helpers.plan import (
    Kind,
    carry_out,
    expected,
    folded,
    none_reached,
    plan,
    require_reached,
)
from helpers.policy.bench import PORT, Bench, has_sctp
from helpers.waiting import consistently

if TYPE_CHECKING:
    from clusters.api import Cluster

FLOWS: Final = 200
# Octets of each flow, there and back. What comes at once must find room in the queue of a node's
# interface, which holds 64 frames on a guest: TCP would send again, a datagram is sent once.
BYTES: Final = {Protocol.TCP: 4096, Protocol.UDP: 64}
SILENT_FOR: Final = 1.5  # seconds
SILENCE: Final = 1.0  # seconds without an answer
ONE_NODE: Final = "the cluster has one node, so there is no pair of nodes"


def test_conn_004_sctp_between_pods(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench
) -> None:
    """Pods talk over SCTP where their nodes' kernels have it.

    Given: pods with an SCTP echo server, and a second pod on each such node
    Then: associations within each node and between every ordered pair of these nodes are
        established, and what is sent comes back
    Source: KEP-614 (SCTP, stable in Kubernetes 1.20)
    """
    gates.require_node_pairs(cluster.state, agents, family)
    sources = {f"pod on {n}": agent for n, agent in agents.pods.items() if has_sctp(agent)}
    if not sources:
        pytest.skip("sctp: the kernel of no node has it (CONFIG_IP_SCTP)")
    kinds = [Kind("sctp", Protocol.SCTP, PORT)]
    servers = [pod for pod in bench.pods if has_sctp(pod.agent)]
    steps = [step for pod in servers for step in bench.to_pod(sources, pod, family, kinds)]
    decide(folded(carry_out(steps)), expected(steps))


def test_conn_010_many_flows_at_once_all_complete(
    family: Family, cluster: Cluster, agents: AgentPool
) -> None:
    """Nobody between the nodes limits how many flows begin at once.

    Given: a pod on each node, each once sender and once receiver in a ring over the nodes
    Then: 200 TCP and then 200 UDP flows that each pod begins at once are all answered with what
        was sent, each at its first attempt
    Source: own requirement
    """
    ring = paths.around_nodes(agents)
    if len(agents.pods) == 1:
        pytest.skip(ONE_NODE)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    seen: Matrix | None = None
    steps = []
    for protocol in paths.FLOWS:
        now = [
            step
            for path in paths.undisturbed(ring, cut, family)
            for step in plan(
                {path.names[0]: path.source},
                {path.names[1]: paths.address(path.target, family)},
                [Kind(f"{FLOWS} x {protocol}", protocol, path.target.port, size=BYTES[protocol])],
                attempts=FLOWS,
                timeout=5.0,
                expect=frozenset({path.target.identity}),
            )
        ]
        matrix = folded(carry_out(now))
        seen = matrix if seen is None else seen | matrix
        steps += now
    assert seen is not None
    decide(seen, expected(steps))
    gates.require_node_pairs(cluster.state, agents, family)


def test_conn_013_listeners_of_one_family_are_not_reached_over_the_other(
    family: Family, cluster: Cluster, agents: AgentPool
) -> None:
    """Nothing translates between the families.

    Given: a pod on each node with TCP and UDP listeners of the other family only, which answer over
        that family
    Then: the same ports answer nobody over this family, for as long as is looked
    Source: KEP-563, non-goals
    """
    every = paths.around_nodes(agents) or paths.within_nodes(agents)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    judged = paths.undisturbed(every, cut, family)
    require_reached(carry_out(flows_to(judged, family)), "CONN-002")
    with listening(agents.pods.values(), family.other) as port:
        require_reached(carry_out(flows_to(judged, family.other, port)), "CONN-002")
        over_this = flows_to(judged, family, port, patience=SILENCE)
        consistently(
            lambda: folded(carry_out(over_this)),
            none_reached,
            during=SILENT_FOR,
            describe=Matrix.summary,
            what=f"{family.other.kubernetes} listeners are silent over {family.kubernetes}",
        )
    gates.require_node_pairs(cluster.state, agents, family)
