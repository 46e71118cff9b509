"""Fixture ``setting``: what disturbances and the flows around them need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.kube import Kube
from helpers.resilience.traffic import Setting
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.fixture
def setting(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    workloads: Workloads,
) -> Setting:
    """The fixtures of a disturbance together; the outside takes part where there is one."""
    outside = request.getfixturevalue("outside") if cluster.outside is not None else None
    return Setting(cluster.state, cluster.spec, kube, facts, agents, workloads, outside)
