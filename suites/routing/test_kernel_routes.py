"""Kernel routes to pods: RTE-002, RTE-003."""

from __future__ import annotations

import pytest

from clusters.api import Cluster
from helpers import bird, netstate, routing
from helpers.agents.pool import AgentPool
from helpers.calico import BlockAffinity
from helpers.departure import departure, departure_findings
from helpers.evidence import Evidence
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.verdicts import Blocked
from helpers.workloads import Workloads


def test_rte_002_one_route_to_every_block(
    cluster: Cluster,
    kube: Kube,
    agents: AgentPool,
    facts: Facts,
    family: Family,
    evidence: Evidence,
) -> None:
    """Every node has one route to each block of another node, and a blackhole for its own.

    Given: Calico's confirmed block affinities, and the main routing table of each node (blocks
        come and go with pods: a route may be up to 10 s behind)
    Then: a remote block has one route, by the owner's node address over the interface to it
        (where the profile encapsulates: through the tunnel); an own block is a blackhole
    Source: Calico confd bird_aggr.cfg and bird6_aggr.cfg; projectcalico/calico#3757
    """
    if len(facts.nodes) < 2:
        pytest.skip("the cluster has one node: there are no remote blocks")
    device = routing.tunnel_device(cluster.spec.encapsulation.of(family), family)
    addresses = bird.bgp_addresses(facts.nodes, family)

    def read() -> routing.Wrong:
        affinities = [BlockAffinity.from_api(item) for item in kube.calico("BlockAffinity")]
        if not any(Family.of(affinity.cidr) is family for affinity in affinities):
            raise Blocked("PODIP-002", f"no node has a block of {family} addresses", family)
        states = netstate.of_nodes(agents)
        return routing.block_findings(family, states, affinities, addresses, device=device)

    evidence.on_failure("routes.json", lambda: routing.told_routes(netstate.of_nodes(agents)))
    routing.demand_right(read, f"every node routes to every {family.kubernetes} block")


def test_rte_003_every_pod_has_a_host_route_and_none_is_stale(
    kube: Kube, agents: AgentPool, facts: Facts, family: Family, evidence: Evidence
) -> None:
    """Every pod has a host route on its node, and no host route is left without a pod.

    Given: all pods before and after the routing tables of all nodes were read, again for at most
        10 s, since pods come and go while others test
    Then: nothing is wrong with the same address in all readings: each running pod has one route
        of /32 or /128 on a cali interface, and none leads to an address without a pod
    Source: Calico cni-plugin dataplane_linux.go; Calico felix route_table
    """
    networks = [pool.cidr for pool in facts.pools if pool.family is family]

    def read() -> routing.Wrong:
        before = kube.pods()
        states = netstate.of_nodes(agents)
        return routing.pod_route_findings(family, states, before, kube.pods(), networks)

    evidence.on_failure("routes.json", lambda: routing.told_routes(netstate.of_nodes(agents)))
    routing.demand_right(read, f"host routes of {family.kubernetes} are those of the pods")


def test_rte_003_host_route_goes_with_its_pod(
    cluster: Cluster, workloads: Workloads, agents: AgentPool, facts: Facts, family: Family
) -> None:
    """The host route of a deleted pod is gone within 10 s.

    Given: a new, Ready pod, which is deleted (one for both families)
    Then: its host route was there, and at most 10 s after the API has forgotten the pod there is
        no route to its address on the node
    Source: Calico cni-plugin (DEL); Calico felix route_table
    """
    node = next((n.name for n in facts.nodes if not n.control_plane), facts.nodes[0].name)
    found = departure_findings(departure(cluster.state, workloads, agents, node, family))
    demand_none(found)
