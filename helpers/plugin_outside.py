"""Fixture ``outside``: the agent beyond the cluster, with its ways back to the pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from clusters import outside as outside_host
from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.kube import Kube
from helpers.once import once

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.fixture(scope="session")
def outside(cluster: Cluster, kube: Kube, agents: AgentPool) -> Agent:
    """The agent on the host outside of the cluster; tests that need it are skipped without one.

    It is given a route to every block of pod addresses, once per run: the agents' pods are there
    by now, so that every node has its blocks.
    """
    host, agent = cluster.outside, agents.outside
    if host is None or agent is None:
        pytest.skip("there is no host outside of the cluster (cluster.outside is None)")

    def sync() -> list[str]:
        return [f"{r.block} via {r.via}" for r in outside_host.sync_routes(host, kube)]

    once(cluster.state, "outside-routes", sync)
    return agent


@pytest.fixture
def restart_node(cluster: Cluster, outside: Agent) -> Callable[[str], None]:
    """Restarts the container that a node is; there are none where there is no outside host."""
    host = cluster.outside
    assert host is not None, "the fixture outside skips without one"
    return lambda node: outside_host.restart_node(host, node)
