"""Names of Services, and their addresses' names."""

from __future__ import annotations

from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.model import FAMILIES, Family, Protocol
from helpers.names import (
    ANSWERED_WITHIN,
    NODATA,
    Question,
    answers_become,
    holding,
    name_findings,
    resolver_of,
)
from helpers.services import REQUIRE, SINGLE, agent_service
from helpers.workloads import Workloads

TRANSPORTS = (Protocol.UDP, Protocol.TCP)


def test_svc_017_names_equal_cluster_ips(
    family: Family, agents: AgentPool, workloads: Workloads
) -> None:
    """The name of a Service resolves to its clusterIPs, and they to its name.

    Given: a dual-stack Service, one of this family alone, and one of the other family alone.
    Then: A or AAAA, over UDP and TCP, is the clusterIP of this family; for the Service of the
        other family it is NODATA, not NXDOMAIN; and the reverse name of each clusterIP of this
        family is the Service's name.
    Source: Kubernetes DNS specification 2.3; KEP-563; RFC 2308 2.2 (NODATA).
    """

    client, agent = next((f"pod on {node}", agent) for node, agent in agents.pods.items())
    resolver = resolver_of(agent)
    wanted = {}
    for families in (FAMILIES, [family], [family.other]):
        service = agent_service(
            workloads,
            policy=REQUIRE if len(families) > 1 else SINGLE,
            families=families,
        )
        name = resolver.service(service.namespace, service.name)
        address = service.cluster_ips.of(family)
        for transport in TRANSPORTS:
            answer = holding([address]) if address else NODATA
            wanted[Question(client, name, family.record, transport)] = answer
        if address:
            reverse = f"{address.reverse_pointer}."
            wanted[Question(client, reverse, "PTR")] = holding([name])
    seen = answers_become({client: agent}, wanted, ANSWERED_WITHIN)
    findings = name_findings(wanted, seen)
    demand_none(findings)
