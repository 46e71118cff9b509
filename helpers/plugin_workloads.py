"""Fixtures over a cluster: ``kube``, ``facts``, ``workloads``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from helpers import facts as facts_module
from helpers.facts import Facts
from helpers.kube import Kube
from helpers.requirements import requirement_of
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster
    from helpers.agents.pool import AgentPool


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    """Access to the API of the cluster under test."""
    return Kube(cluster.kubeconfig, cluster.context)


@pytest.fixture(scope="session")
def facts(cluster: Cluster, kube: Kube, agents: AgentPool) -> Facts:
    """What is true of the cluster for the whole run."""
    return facts_module.load(cluster.state, kube, agents)


@pytest.fixture
def workloads(
    request: pytest.FixtureRequest, cluster: Cluster, kube: Kube, agents: AgentPool
) -> Iterator[Workloads]:
    """A namespace of the test's own; made on first use, deleted when the test ends."""
    made = Workloads(kube, cluster, agents, requirement_of(request.node.name).id)
    yield made
    made.close()
