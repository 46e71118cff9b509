"""Services follow what is changed about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.gates import require_node_pairs
from helpers.kube import Kube
from helpers.matrix import Matrix, decide
from helpers.model import FAMILIES, Family, Protocol
from helpers.plan import (
    Kind,
    all_reached,
    answered_in_time,
    carry_out,
    expected,
    folded,
    follows_within,
    plan,
    programmed,
)
from helpers.probes import Probe
from helpers.service_changes import (
    Kept,
    change_findings,
    continued,
    fixed_port_flows,
    own_port,
    set_policy,
)
from helpers.services import (
    PREFER,
    REQUIRE,
    SINGLE,
    agent_service,
    backends,
    clients_inside,
    cluster_ip,
)
from helpers.waiting import consistently, lastingly
from helpers.workloads import Workloads, tcp_port

if TYPE_CHECKING:
    from clusters.api import Cluster

STAYS_FOR = 2.0  # seconds


def test_svc_004_one_family_becomes_two_and_one_again(
    family: Family,
    cluster: Cluster,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    workloads: Workloads,
) -> None:
    """A Service of one family becomes dual-stack and single-stack again at a running cluster.

    Given: two Services of this family alone, with a backend on every node, which answer a pod on
        every node and the nodes themselves.
    Then: changed to PreferDualStack and RequireDualStack they keep their clusterIP, and the new
        one answers everybody within 10 s. Changed back, the first goes on answering, and the
        second, which had answered just before, is silent once kube-proxy has followed: once a
        Service made after the change answers.
    Source: Kubernetes docs "IPv4/IPv6 dual-stack", switching Services.
    """
    for one in FAMILIES:
        require_node_pairs(cluster.state, agents, one)
    backends(agents, *FAMILIES)
    clients = clients_inside(agents)
    port = own_port()
    kind = Kind("tcp", Protocol.TCP, port)
    single = {
        policy: agent_service(
            workloads,
            policy=SINGLE,
            families=[family],
            ports=[tcp_port(port)],
        )
        for policy in (PREFER, REQUIRE)
    }
    first = {policy: made.cluster_ips.require(family) for policy, made in single.items()}
    to_first = plan(clients, first, [kind], timeout=1.0)
    programmed(to_first, "the single-stack Service answers")

    dual = {p: set_policy(kube, made, p, facts.service_cidrs) for p, made in single.items()}
    findings = [
        finding
        for policy in dual
        for finding in change_findings(single[policy], dual[policy], [family, family.other])
    ]
    demand_none(findings)
    second = {policy: made.cluster_ips.require(family.other) for policy, made in dual.items()}
    to_second = plan(clients, second, [kind], timeout=1.0)
    programmed(to_second, "the added clusterIP answers")

    back = {p: set_policy(kube, made, SINGLE, facts.service_cidrs) for p, made in dual.items()}
    findings = [f for policy in back for f in change_findings(dual[policy], back[policy], [family])]
    demand_none(findings)
    newer = agent_service(workloads, ports=[tcp_port(port)])
    both = {f"newer clusterIP {address}": address for address in newer.cluster_ips.all}
    programmed(plan(clients, both, [kind], timeout=1.0), "a Service made later answers")
    lastingly(
        lambda: Kept.observe(to_first, to_second),
        Kept.holds,
        within=follows_within(agents.nodes.running.values()),
        during=STAYS_FOR,
        describe=str,
        what="after the way back the first clusterIP answers and the second does not",
    )


def test_svc_014_a_removed_backend_gets_nothing_new(
    family: Family, cluster: Cluster, kube: Kube, agents: AgentPool, workloads: Workloads
) -> None:
    """Clients of a Service leave a backend that is removed from it, those of old flows too.

    Given: a Service with two backends on different nodes, and on every node UDP clients with a
        fixed source port that one of them serves.
    Then: when that one loses the label that the Service selects (it goes on running and would
        answer), then within 10 s all new TCP and UDP flows and all flows with a fixed port are
        served by the other, and stay there.
    Source: Kubernetes e2e dual_stack.go (update endpoints); kube-proxy conntrack cleanup.
    """
    require_node_pairs(cluster.state, agents, family)
    nodes = list(agents.pods)
    leaving, staying = workloads.pods([nodes[0], nodes[-1]], families=[family])
    service = workloads.service(policy=PREFER)
    target = cluster_ip(service, family)
    kinds = [Kind("tcp", Protocol.TCP, 80), Kind("udp", Protocol.UDP, 80)]
    clients = clients_inside(agents)
    programmed(plan(clients, {"clusterIP": target}, kinds, attempts=4), "the Service answers")
    flows = fixed_port_flows(clients, Probe(Protocol.UDP, target, 80), leaving.name)
    still = continued(clients, flows, leaving.name)
    decide(folded(carry_out(still)), expected(still))

    kube.patch("v1", "Pod", leaving.name, {"metadata": {"labels": {"app": "retired"}}},
               leaving.namespace)  # fmt: skip
    steps = [
        *plan(
            clients,
            {"clusterIP": target},
            kinds,
            attempts=6,
            expect=frozenset([staying.name]),
        ),
        *continued(clients, flows, staying.name),
    ]
    what = f"no client is served by {leaving.name} on {leaving.node}, which left the Service"
    answered_in_time(steps, what)
    consistently(
        lambda: folded(carry_out(steps)),
        all_reached,
        during=STAYS_FOR,
        describe=Matrix.summary,
        what=what,
    )
