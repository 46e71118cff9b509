"""Whom the outside sees when a pod calls, and whom a pod sees when the outside calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.calico import IPPool
from helpers.egress import departures, inbound_findings, require_seen, source_findings
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import pod_address
from helpers.kube import Kube
from helpers.model import Family, Protocol
from helpers.plan import Kind, demand_reached, plan

if TYPE_CHECKING:
    from clusters.api import Cluster


def _decide_source(
    kube: Kube, facts: Facts, agents: AgentPool, outside: Agent, family: Family, *, translated: bool
) -> None:
    seen = departures(agents, outside, facts.nodes, family)
    pools = [IPPool.from_api(pool) for pool in kube.calico("IPPool")]
    findings = source_findings(seen, pools, translated=translated)
    demand_none(findings)
    require_seen(seen, family)


def test_egr_003_outside_sees_the_node(
    family: Family, cluster: Cluster, kube: Kube, facts: Facts, agents: AgentPool, outside: Agent
) -> None:
    """Where natOutgoing is declared for IPv4, the outside sees an address of the pod's node.

    Given: a pod on each node that sends TCP and one-way UDP to the outside host.
    Then: the host saw the InternalIP of that node and nothing else.
    Source: Calico natOutgoing, default true for IPv4 (node/pkg/lifecycle/startup).
    """
    if not cluster.spec.nat_outgoing.of(family):
        pytest.skip(f"the profile declares nat_outgoing false for {family.kubernetes}")
    _decide_source(kube, facts, agents, outside, family, translated=True)


def test_egr_004_outside_sees_the_pod(
    family: Family, cluster: Cluster, kube: Kube, facts: Facts, agents: AgentPool, outside: Agent
) -> None:
    """Where natOutgoing is not declared for IPv6, the outside sees the pod's own address.

    Given: a pod on each node that sends TCP and one-way UDP to the outside host.
    Then: the host saw the pod's address and nothing else.
    Source: Calico natOutgoing, default false for IPv6 (node/pkg/lifecycle/startup).
    """
    if cluster.spec.nat_outgoing.of(family):
        pytest.skip(f"the profile declares nat_outgoing true for {family.kubernetes}")
    _decide_source(kube, facts, agents, outside, family, translated=False)


def test_egr_011_outside_opens_connections_to_pods(
    family: Family, cluster: Cluster, agents: AgentPool, outside: Agent
) -> None:
    """A host outside that has routes opens connections to pods, and they see its own address.

    Given: routes on the outside host to every block of pod addresses, via the block's node.
    Then: TCP and UDP to a pod on every node are answered, and the pod saw the host's address.
    Source: Calico 3.11 announcement ("IPv6 native"); KEP-563.
    """
    if not cluster.spec.native:
        pytest.skip("the profile encapsulates pod packets: the outside has no route to pods")
    targets = {f"pod on {node}": pod_address(pod, family) for node, pod in agents.pods.items()}
    port = next(iter(agents.pods.values())).port
    own = outside.addresses.require(family)
    steps = plan(
        {"outside": outside},
        targets,
        [Kind("tcp", Protocol.TCP, port), Kind("udp", Protocol.UDP, port)],
        origin={"outside": own},
    )
    answered = demand_reached(
        steps,
        "look for rules that drop new connections from the nodes' network to cali interfaces, and "
        "at the routes of the nodes to their pods and back to the outside",
    )
    findings = inbound_findings(answered, own)
    demand_none(findings)
