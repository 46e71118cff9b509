"""What peers outside of the cluster learn: RTE-004."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.announcements import (
    announcement_findings,
    cluster_as,
    listen,
    peering,
    require_told,
)
from helpers.calico import BlockAffinity
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.paths import address

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_rte_004_peers_learn_the_pods_blocks_only(
    family: Family, cluster: Cluster, kube: Kube, agents: AgentPool, outside: Agent
) -> None:
    """A BGP peer outside learns the blocks of a node's pods from that node, and nothing else.

    Given: a BGP speaker on the outside host that is every node's peer over this family
    Then: each node announces exactly its own blocks of the family, and the Service ranges that
        BGPConfiguration names: no single addresses, no link-local or node routes
    Source: Calico confd templates (bird_ipam.cfg, bird6_ipam.cfg); Calico 3.14 release notes
        (addresses of kube-ipvs0)
    """
    assert cluster.outside is not None  # the fixture `outside` has skipped the test without one
    own_as = cluster_as(kube)
    nodes = {address(agent, family): name for name, agent in agents.nodes.items()}
    configurations = [item["spec"] for item in kube.calico("BGPConfiguration")]
    services = [
        ip_network(entry["cidr"])
        for spec in configurations
        for key in ("serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs")
        for entry in spec.get(key) or []
    ]
    with peering(kube, own_as, [cluster.outside.addresses.require(family)]):
        announced = listen(outside, own_as, nodes)
    affinities = [BlockAffinity.from_api(item) for item in kube.calico("BlockAffinity")]
    findings = announcement_findings(announced, affinities, services, family)
    demand_none(findings)
    require_told(announced, family)
