"""Nodes and pods reach each other: CONN-011, 012."""

from __future__ import annotations

from clusters.api import Cluster
from helpers import gates, node_paths, paths
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.matrix import Matrix, decide
from helpers.model import Family


def test_conn_011_nodes_reach_pods_everywhere(
    cluster: Cluster, agents: AgentPool, family: Family
) -> None:
    """A node reaches its own pods, as kubelet's probes need it, and those of other nodes.

    Given: every node and a pod on each, node pairs that reach each other
    Then: TCP, UDP and ICMP echo come back from each pod to each node
    Source: KEP-563 (probes); Calico felix rules/static.go
    """
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    judged = paths.undisturbed(paths.from_nodes(agents), cut, family)

    seen = paths.observe(judged, family, paths.EVERY)

    decide(Matrix.observed(seen.items()), Matrix.expecting(seen))
    gates.require_node_pairs(cluster.state, agents, family)


def test_conn_012_pods_reach_nodes_and_are_masqueraded_only_if_asked(
    cluster: Cluster, agents: AgentPool, facts: Facts, family: Family
) -> None:
    """A pod reaches its own node and the others, with the source that its pool promises.

    Given: a pod on each node and every node's InternalIP
    Then: TCP, UDP and ICMP echo come back; the other nodes see the pod's node as source if the
        pod's pool has natOutgoing and the target is in no pool (nor exempt as a host), else the
        pod; its own node always sees the pod
    Source: Calico felix rules/nat.go
    """
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    judged = paths.undisturbed(paths.to_nodes(agents), cut, family)
    wanted = [(p, paths.probe(p, family, protocol)) for p in judged for protocol in paths.EVERY]
    cells = [path.cell(family, probe.protocol) for path, probe in wanted]

    observations = paths.run(wanted)

    seen = dict(zip(cells, observations, strict=True))
    decide(Matrix.observed(seen.items()), Matrix.expecting(seen))
    flows = [
        (path, o)
        for (path, _), o in zip(wanted, observations, strict=True)
        if o.probe.protocol in paths.FLOWS
    ]
    expected = node_paths.expected_sources(judged, agents, facts, family)
    fix = f"compare with natOutgoing of the {family.kubernetes} IPPool, look for other masquerading"
    found = paths.source_findings(flows, expected, fix)
    demand_none(found)
    gates.require_node_pairs(cluster.state, agents, family)
