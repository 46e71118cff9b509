"""Names resolve in pods, for each family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.model import Family
from helpers.names import (
    ANSWERED_WITHIN,
    Question,
    answers_become,
    application_findings,
    holding,
    name_findings,
    resolver_of,
)
from helpers.services import agent_service, require_family
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_egr_009_names_resolve_in_pods(
    family: Family, cluster: Cluster, agents: AgentPool, workloads: Workloads
) -> None:
    """Cluster names and names outside of the cluster resolve to their addresses of the family.

    Given: a pod on each node with the resolver that kubelet gave it; a dual-stack Service; and
        the outside host, whose name only the resolver of the nodes knows.
    Then: A or AAAA of both names are exactly their addresses, for a DNS query and for
        getaddrinfo alike.
    Source: KEP-563, CoreDNS; RFC 3596.
    """
    service = agent_service(workloads)
    require_family(service, family)
    clients = {f"pod on {node}": agent for node, agent in agents.pods.items()}
    resolver = resolver_of(next(iter(clients.values())))
    names = {resolver.service(service.namespace, service.name): service.cluster_ips}
    if cluster.outside is not None:
        names[f"{cluster.outside.container}."] = cluster.outside.addresses
    wanted = {
        Question(client, name, family.record): holding([addresses.require(family)])
        for client in clients
        for name, addresses in names.items()
    }
    seen = answers_become(clients, wanted, ANSWERED_WITHIN)
    findings = name_findings(wanted, seen)
    for name, addresses in names.items():
        findings += application_findings(clients, name, addresses.require(family))
    demand_none(findings)
