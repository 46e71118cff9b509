"""Fixture ``between_pods``: the ways that forged packets take in a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import paths
from helpers.agents.pool import AgentPool
from helpers.gates import blocked_node_pairs
from helpers.model import Family
from helpers.once import once
from helpers.packet_matrix import ways
from helpers.packets.selftest import require_lossless
from helpers.parallel import on_each

if TYPE_CHECKING:
    from clusters.api import Cluster
    from helpers.agents.client import Agent


@pytest.fixture
def between_pods(cluster: Cluster, agents: AgentPool, family: Family) -> list[ways.Way]:
    """Ways within every node, and around all nodes where these reach each other.

    Once in a run every sender shows that it loses nothing at the rate that is used.
    """
    within = [p for p in paths.within_nodes(agents) if p.source is agents.pods[p.nodes[0]]]
    around = paths.around_nodes(agents) if len(agents.pods) > 1 else []
    cut = blocked_node_pairs(cluster.state, agents, family)
    judged = [*within, *paths.undisturbed(around, cut, family)]
    senders = dict.fromkeys(path.source for path in judged)
    once(cluster.state, f"lossless-{family}", lambda: _lossless(list(senders), family))
    return ways.between_pods(agents, judged, family)


def _lossless(senders: list[Agent], family: Family) -> list[str]:
    on_each(senders, lambda agent: require_lossless(agent, paths.address(agent, family)))
    return [agent.name for agent in senders]
