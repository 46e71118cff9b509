"""A node changes the mode of its kube-proxy while it is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.ipvs.migration import migration, migration_findings
from helpers.ipvs.nodes import ipvs_nodes
from helpers.kube import Kube
from helpers.model import Family
from helpers.service_proxy_config import MODE_LABEL
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


@pytest.mark.timeout(400)
def test_prx_009_from_ipvs_to_nftables_and_back(
    family: Family,
    cluster: Cluster,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    workloads: Workloads,
    evidence: Evidence,
) -> None:
    """A node in ipvs mode goes to nftables mode and back, and leaves nothing of either behind.

    Given: flows of both families from a pod on the node through a clusterIP and from outside
        through its NodePort: established TCP, new TCP connections, UDP, and DNS questions.
    Then: kube-proxy runs in the other mode in time, nothing of the old one is left in the kernel
        for this family, and new flows get through again. What each flow lost is written down.
    Source: KEP-5495 (ipvs is deprecated), KEP-3866 (nftables).
    """
    nodes = [n for n in facts.nodes if n.name in ipvs_nodes(cluster.spec, facts)]
    chosen = [n.name for n in nodes if n.labels.get(MODE_LABEL) == "ipvs"]
    if not chosen:
        pytest.skip("no node in ipvs mode has its kube-proxy chosen by a label")
    legs = migration(cluster.state, kube, agents, workloads, chosen[0])
    evidence.attach("migration.json", [leg.to_json() for leg in legs], always=True)
    demand_none(migration_findings(chosen[0], legs, family))
