"""Fixture ``between_pods``: the ways that forged packets take in a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import paths
from helpers.agents.pool import AgentPool
from helpers.gates import blocked_node_pairs
from helpers.model import Family
from helpers.packet_matrix import ways

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.fixture
def between_pods(cluster: Cluster, agents: AgentPool, family: Family) -> list[ways.Way]:
    """Ways within every node, and around all nodes where these reach each other."""
    within = [p for p in paths.within_nodes(agents) if p.source is agents.pods[p.nodes[0]]]
    around = paths.around_nodes(agents) if len(agents.pods) > 1 else []
    cut = blocked_node_pairs(cluster.state, agents, family)
    judged = [*within, *paths.undisturbed(around, cut, family)]
    return ways.between_pods(agents, judged, family)
