"""Fixture ``agents``, and how a difference of matrices is printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.kube import Kube
from helpers.matrix import Matrix, explain_matrix

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.fixture(scope="session")
def agents(cluster: Cluster, kube: Kube) -> Iterator[AgentPool]:
    """Probe agents on every node and outside, deployed once per run, connected on first use."""
    pool = AgentPool.open(
        kube,
        cluster.state,
        image=cluster.agent_image,
        pull_policy=cluster.agent_image_pull_policy,
        outside=cluster.outside,
        engine=cluster.engine,
    )
    yield pool
    pool.close()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Print what differs between two matrices, grouped by cause."""
    if op == "==" and isinstance(left, Matrix) and isinstance(right, Matrix):
        return explain_matrix(left, right)
    return None
