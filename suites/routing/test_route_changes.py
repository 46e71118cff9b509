"""Who programs the routes to blocks, and whether they stay: RTE-005."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.route_changes import IDLE, flap_findings, maker_findings, watch

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.mark.timeout(180 + IDLE)
def test_rte_005_block_routes_have_one_maker_and_stay(
    family: Family, cluster: Cluster, kube: Kube, agents: AgentPool
) -> None:
    """Routes to blocks of pod addresses are made by one program and do not flap.

    Given: every node, and the blocks that are there at the beginning of a minute in which nobody
        changes the nodes
    Then: no route to one of them comes, changes or goes, and each block has exactly one route
    Source: Calico api FelixConfiguration and BGPConfiguration (programClusterRoutes)
    """
    watched = watch(cluster.state, kube, agents)
    findings = [*flap_findings(watched, family), *maker_findings(watched, family)]
    demand_none(findings)
