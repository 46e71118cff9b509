"""What pod packets are like between the nodes: CONN-006, 008, 009."""

from __future__ import annotations

import pytest

from clusters.api import Cluster
from helpers import fabric, gates, mtu, paths, probes
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.matrix import Matrix, decide
from helpers.model import Family, Protocol
from helpers.parallel import on_each
from helpers.pod_netns import POD_INTERFACE, link, route_device

ONE_NODE = "the cluster has one node, so there is nothing between nodes"
BULK = 64 * 1024 * 1024
DATAGRAMS = (2_000, 8_000, 60_000)


@pytest.fixture
def ring(cluster: Cluster, agents: AgentPool, family: Family) -> list[paths.Path]:
    """Paths around the nodes, without pairs that do not reach each other."""
    around = paths.around_nodes(agents)
    if len(agents.pods) == 1:
        pytest.skip(ONE_NODE)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)
    return paths.undisturbed(around, cut, family)


def test_conn_006_pod_packets_cross_the_fabric_as_they_are(
    cluster: Cluster, agents: AgentPool, family: Family
) -> None:
    """Between nodes a pod's packet is a plain packet of the pod.

    Given: marked datagrams over every ordered pair of nodes, the nodes' fabric interfaces captured
    Then: the outermost header of every marked frame has the pods' addresses (no IPIP, no VXLAN,
        no encryption, no translation)
    Source: Calico 3.11's dual-stack announcement (native, no tunnel)
    """
    if not cluster.spec.native:
        pytest.skip(f"profile {cluster.spec.name} encapsulates pod packets")
    every = paths.between_nodes(agents)
    if not every:
        pytest.skip(ONE_NODE)
    cut = gates.blocked_node_pairs(cluster.state, agents, family)

    crossings = fabric.observe(agents, paths.undisturbed(every, cut, family), family)

    found = fabric.crossing_findings(crossings)
    demand_none(found)
    fabric.require_crossing(crossings)
    gates.require_node_pairs(cluster.state, agents, family)


def test_conn_008_pods_have_the_largest_mtu_that_passes(
    cluster: Cluster,
    agents: AgentPool,
    facts: Facts,
    ring: list[paths.Path],
    family: Family,
) -> None:
    """A pod may send packets as large as its interface says, and Calico wastes nothing.

    Given: a pod on each node; the MTU of the node's fabric interface; what is encapsulated
    Then: eth0's MTU is the node's less the largest overhead; an unfragmented packet of that size
        passes to the next node, one byte more is refused by the pod's own interface
    Source: Calico docs "Configure MTU"; felix int_dataplane.go
    """
    small = paths.run([(path, paths.probe(path, family, Protocol.ICMP)) for path in ring])
    added = mtu.overheads(facts.pools, facts.felix.get("default", {}))
    found = []
    for path, control in zip(ring, small, strict=True):
        pod = link(path.source, POD_INTERFACE).mtu
        found += mtu.mtu_findings(
            f"pod on {path.nodes[0]}",
            pod,
            _fabric_mtu(agents, path, family),
            added,
            cluster.spec.mtu,
        )
        if control.reached:
            whole = {"dont_fragment": True, "size": mtu.echo_size(pod, family)}
            beyond = whole | {"size": mtu.echo_size(pod + 1, family)}
            full, larger = paths.run(
                [(path, paths.probe(path, family, Protocol.ICMP, **o)) for o in (whole, beyond)]
            )
            where = f"{path.names[0]} -> {path.names[1]}"
            found += mtu.passing_findings(where, pod, full, larger)

    demand_none(found)
    paths.require_reached(zip(ring, small, strict=True), "CONN-003")
    gates.require_node_pairs(cluster.state, agents, family)


def _fabric_mtu(agents: AgentPool, path: paths.Path, family: Family) -> int:
    here, there = (agents.nodes[node] for node in path.nodes)
    return link(here, route_device(here, paths.address(there, family))).mtu


def test_conn_009_large_transfers_arrive_intact(
    cluster: Cluster, agents: AgentPool, ring: list[paths.Path], family: Family
) -> None:
    """Bulk data and fragmented datagrams pass between nodes as they were sent.

    Given: pods around the nodes, each once sender and once receiver, that answer small requests
    Then: 64 MiB over TCP have the same SHA-256 at both ends; UDP datagrams of 2, 8 and 60 kB come
        back byte by byte
    Source: Kubernetes e2e dual_stack.go "large requests"
    """
    small = [
        (path, paths.probe(path, family, protocol)) for path in ring for protocol in paths.FLOWS
    ]
    control = paths.run(small)
    paths.require_reached([(p, o) for (p, _), o in zip(small, control, strict=True)], "CONN-002")

    datagrams = {
        path.cell(family, f"udp {size} bytes"): (
            path,
            paths.probe(path, family, Protocol.UDP, size=size),
        )
        for path in ring
        for size in DATAGRAMS
    }
    seen = dict(zip(datagrams, paths.run(list(datagrams.values())), strict=True))
    bulk = on_each(ring, lambda path: _transfer(path, family))
    seen |= {path.cell(family, "tcp 64 MiB"): observed for path, observed in bulk.items()}

    decide(Matrix.observed(seen.items()), Matrix.expecting(seen))
    gates.require_node_pairs(cluster.state, agents, family)


def _transfer(path: paths.Path, family: Family) -> probes.Observation:
    sent = paths.probe(path, family, Protocol.TCP)
    assert sent.port is not None
    done = probes.tcp_bulk(path.source, sent.target, sent.port, BULK, timeout=60.0)
    return probes.Observation(sent, done.outcome, error=done.error)
