"""Fixture ``bench``: the pods that policies are tried on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.kube import Kube
from helpers.policy import bench as policy_bench
from helpers.policy.bench import Bench
from helpers.verdicts import Inconclusive
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.fixture(scope="session")
def bench(cluster: Cluster, kube: Kube, agents: AgentPool) -> Iterator[Bench]:
    """Pods of this worker for policy tests; made on first use, deleted when the session ends."""
    workloads = Workloads(kube, cluster, agents, "policy")
    try:
        made = policy_bench.make(kube, cluster, agents, workloads)
        yield made
        if made.outside is not None:
            with contextlib.suppress(Inconclusive):  # the verdicts are given, the host may be gone
                policy_bench.lead_to(made.outside, made.pods, agents, "del")
    finally:
        workloads.close()
