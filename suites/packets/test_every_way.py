"""Every shape of packet on every way: what the table in docs/extension-headers.md is made from."""

from __future__ import annotations

import pytest

from helpers import paths
from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.model import Family, Protocol
from helpers.packet_matrix import judge, repeat, ways
from helpers.packet_matrix.expected import delivered_shapes
from helpers.packet_matrix.flight import Shot, fly_until_told, shots
from helpers.packet_matrix.services import called_by
from helpers.packet_matrix.shapes import Carrier, variants
from helpers.paths import Path
from helpers.workloads import Workloads


@pytest.fixture
def through_services(
    agents: AgentPool, outside: Agent, workloads: Workloads, family: Family
) -> list[ways.Way]:
    """From the pod of each node to one backend by a ClusterIP, from outside by a NodePort."""
    first, *_, last = agents.pods
    (backend,) = workloads.pods([last])
    target = workloads.agent(backend)
    service = workloads.service(type="NodePort")
    between = [
        Path(pod, target, (f"pod on {node}", f"backend on {last}"), (node, last))
        for node, pod in agents.pods.items()
    ]
    inside = called_by(
        ways.between_pods(agents, between, family),
        ways.CLUSTER_IP,
        service.cluster_ips.require(family),
        80,
        by="SVC-007",
    )
    from_outside = ways.from_outside_by(agents, outside, first, target, last, family)
    port = service.node_ports["udp"]
    node = paths.address(agents.nodes[first], family)
    udp = (Protocol.UDP,)  # a NodePort belongs to one protocol
    by_port = called_by([from_outside], ways.NODE_PORT, node, port, by="SVC-010", protocols=udp)
    return [*inside, *by_port]


def test_pkt_022_every_shape_on_every_way(
    family: Family,
    agents: AgentPool,
    outside: Agent,
    facts: Facts,
    between_pods: list[ways.Way],
    through_services: list[ways.Way],
    evidence: Evidence,
) -> None:
    """What is delivered between pods is delivered through Services and to and from the outside.

    Given: every shape of extension headers, fragments and options in both carriers: within and
        between nodes, to and from the outside; what is delivered there by UDP also through a
        ClusterIP and, from outside, a NodePort
    Then: each has the same fate on every way
    Source: suites/packets/expected.yaml, for each shape
    """
    there = outside.addresses.require(family)
    beyond = ways.outside_ways(agents, outside, list(agents.pods), there)
    wanted: list[Shot] = shots([*between_pods, *beyond], variants(family))
    delivered = delivered_shapes(family)
    wanted += shots(through_services, variants(family, delivered, [Carrier.UDP]))
    seen = fly_until_told(wanted, judge.lacks_error)
    evidence.attach("packets.json", repeat.rows(seen), always=True)
    repeat.attach(evidence, judge.failing(seen))
    findings = judge.findings(seen)
    demand_none(findings)
    judge.require_plain(seen)
