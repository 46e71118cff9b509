"""BGP sessions of both families: RTE-001."""

from __future__ import annotations

import pytest

from helpers import bird, calico_config
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.parallel import on_each


def test_rte_001_bird_has_a_session_for_every_pair_of_nodes(
    kube: Kube, agents: AgentPool, facts: Facts, family: Family
) -> None:
    """The BIRD of the family has an Established session between every two nodes.

    Given: `show protocols all` on the control socket of each node's BIRD (bird.ctl, bird6.ctl),
        and calico-node's own check of the family (-bird-ready, -bird6-ready)
    Then: every node has a session to every other one (without a mesh: to its route reflectors),
        all are Established, and the check passes
    Source: Calico node/pkg/health (the shipped readiness probe asks -bird-ready only: IPv4)
    """
    if len(facts.nodes) < 2:
        pytest.skip("the cluster has one node: there are no pairs")
    sessions = on_each(agents.nodes, lambda node: bird.read_sessions(agents.nodes[node], family))
    found = bird.session_findings(
        family,
        sessions,
        bird.bgp_addresses(facts.nodes, family),
        mesh=bird.mesh_enabled(kube.calico("BGPConfiguration")),
    )
    pods = calico_config.calico_nodes(kube)
    refusals = on_each(pods, lambda node: bird.readiness_refusal(kube, pods[node], family))
    found += [refusal for refusal in refusals.values() if refusal]
    demand_none(found)
