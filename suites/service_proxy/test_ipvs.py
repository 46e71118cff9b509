"""The kernel of every node in ipvs mode holds what the Services of the API ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.agents.deploy import HOST_ROOT
from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.ipvs.leaving import Leaving, drained
from helpers.ipvs.nodes import Findings, Look, Watched, ipvs_nodes
from helpers.ipvs.variety import come_and_go
from helpers.kube import Kube
from helpers.model import FAMILIES, Family
from helpers.proxy_tables import lasting
from helpers.services import agent_service
from helpers.waiting import consistently, eventually
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from clusters.api import Cluster

STAYS_FOR = 3.0  # seconds


@pytest.fixture
def watched(cluster: Cluster, kube: Kube, facts: Facts, agents: AgentPool) -> Watched:
    """The nodes that are declared to run kube-proxy in ipvs mode."""
    nodes = ipvs_nodes(cluster.spec, facts)
    if not nodes:
        pytest.skip("no node is declared to run kube-proxy in ipvs mode")
    return Watched.of(kube, facts, agents, nodes)


def _wrong(watched: Watched, wrong: Callable[[Look], Findings], what: str) -> list[str]:
    """What outlasts the time that kube-proxy has for a change."""

    def observe() -> Findings:
        return {key: text for look in watched.look() for key, text in wrong(look).items()}

    return lasting(observe, within=watched.within, what=what)


def _wrong_by_family(watched: Watched, what: str) -> dict[Family, list[str]]:
    """Everything that is wrong, of both families in the same looks."""

    def both(look: Look) -> Findings:
        return {
            (family.value, *key[1:]): f"{family.value} {text}"
            for family in FAMILIES
            for key, text in look.everything(family).items()
        }

    found = [text.split(" ", 1) for text in _wrong(watched, both, what)]
    return {family: [text for one, text in found if one == family.value] for family in FAMILIES}


def _demand_equal(watched: Watched, wrong: Callable[[Look], Findings], what: str) -> None:
    demand_none(_wrong(watched, wrong, what))


def _stock(watched: Watched, workloads: Workloads, *families: Family) -> None:
    """Make a Service if there is none of a family: nothing would be compared with nothing."""
    (look, *_) = watched.look()
    if not all(look.expected[family].servers for family in families):
        agent_service(workloads, type="NodePort")


def test_prx_001_dummy_interface_holds_the_services(
    family: Family, watched: Watched, workloads: Workloads
) -> None:
    """kube-ipvs0 has exactly the addresses of the Services.

    Given: the Services of the API, at least one of them of this family.
    Then: on every ipvs node the interface kube-ipvs0 holds their clusterIPs, externalIPs and load
        balancer addresses of this family, and no other: each difference seen now is gone in time.
    Source: pkg/proxy/ipvs (Service addresses are bound to a dummy interface).
    """
    _stock(watched, workloads, family)
    _demand_equal(
        watched, lambda look: look.addresses(family), "kube-ipvs0 holds the Services' addresses"
    )


def test_prx_002_virtual_servers_equal_the_services(
    family: Family, watched: Watched, agents: AgentPool, workloads: Workloads, evidence: Evidence
) -> None:
    """IPVS has exactly the virtual servers that the Services ask for.

    Given: the Services of the API, at least one of them of this family.
    Then: on every ipvs node there is a virtual server for each of their ports on each clusterIP,
        externalIP and load balancer address, and for each NodePort on each address of the node,
        with the configured scheduler and the Service's session affinity; and no other.
    Source: pkg/proxy/ipvs; ip_vs(8) ``/proc/net/ip_vs``.
    """
    _stock(watched, workloads, family)
    _demand_equal(watched, lambda look: look.servers(family), "virtual servers equal the Services")
    for node in watched.settings:
        done = agents.nodes[node].call_one("run", argv=["ipvsadm", "-Ln"], root=HOST_ROOT)
        evidence.attach(f"ipvsadm-{node}.txt", done["stdout"] or done["stderr"], always=True)


@pytest.mark.timeout(400)
def test_prx_010_kernel_follows_services_that_come_and_go(
    family: Family, cluster: Cluster, watched: Watched, workloads: Workloads
) -> None:
    """While Services of all kinds come and go the kernel holds exactly what they ask for.

    Given: more than 20 Services: dual-stack in both orders, single-stack of each family,
        headless, NodePort, session affinity, policies Local, without endpoints, UDP, SCTP, named
        ports, externalIPs, load balancer; made, half of them deleted, made again, all deleted.
    Then: after each step addresses of kube-ipvs0, virtual servers, real servers and ipsets of
        this family are those of the API in time.
    Source: pkg/proxy/ipvs.
    """
    found = come_and_go(
        cluster.state,
        workloads,
        lambda step: _wrong_by_family(watched, f"the kernel is as the API asks: {step}"),
    )
    demand_none(found[family])


def test_prx_003_real_servers_equal_the_endpoints(
    family: Family, watched: Watched, workloads: Workloads
) -> None:
    """The real servers of each virtual server are the usable endpoints of its family.

    Given: the Services of the API, at least one of them of this family.
    Then: on every ipvs node each virtual server has exactly the usable endpoints of its Service
        and family (with a policy Local: the node's own), with weight 1 and translated (Masq); TCP
        endpoints that end may stay with weight 0; the kernel settings that this needs are made.
    Source: pkg/proxy/ipvs, pkg/proxy/topology.go; graceful_termination.go.
    """
    _stock(watched, workloads, family)
    _demand_equal(
        watched,
        lambda look: {**look.backends(family), **look.sysctls()},
        "real servers equal the usable endpoints",
    )


@pytest.mark.timeout(300)
def test_prx_011_a_leaving_backend_drains(
    family: Family, watched: Watched, agents: AgentPool, workloads: Workloads
) -> None:
    """A backend that leaves a Service gets weight 0 and keeps its connections.

    Given: a Service with two backends, and a pod on each ipvs node with an open connection.
    Then: when the backend of that connection leaves the Service, its real server has weight 0 for
        TCP and is gone for UDP in time; it stays so, and the connection goes on.
    Source: pkg/proxy/ipvs/graceful_termination.go.
    """
    first, *_, last = agents.pods
    for node in watched.settings:
        leave = Leaving.begin(workloads, agents, node, [first, last], family, watched.within)
        leave.retire()
        eventually(
            leave.weights,
            drained,
            within=watched.within,
            describe=str,
            what=f"{node} drains {leave.gone.name}",
        )
        consistently(
            leave.weights,
            drained,
            during=STAYS_FOR,
            describe=str,
            what=f"{leave.gone.name} is drained only",
        )
        report = leave.end()
        assert report["alive"], (
            f"{node}: the connection to {leave.gone.name}, which left the Service, was cut: "
            f"{report['error']}"
        )


def test_prx_004_ipsets_of_both_families_are_twins(watched: Watched, workloads: Workloads) -> None:
    """Every KUBE- ipset has its KUBE-6- twin, and each holds what its family asks for.

    Given: the Services and EndpointSlices of the API, at least one of each family.
    Then: on every ipvs node all sets are there for both families, with the type and family they
        must have, and hold the entries of the Services of their family, no more and no less.
    Source: pkg/proxy/ipvs/ipset.go (names cut to 31 characters).
    """
    _stock(watched, workloads, *FAMILIES)
    _demand_equal(watched, Look.sets, "ipsets equal the Services of both families")
