"""Which family a client chooses for a name with both: EGR-010."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from helpers.agents.client import Agent
from helpers.evidence import Evidence
from helpers.eyeballs import choice_finding, connect, preferred
from helpers.findings import demand_none
from helpers.matrix import Cell
from helpers.model import FAMILIES, Family
from helpers.plan import plan
from helpers.policy.bench import FLOWS, Bench
from helpers.policy.dns import DNS_LABELS, DNS_NAMESPACE, DNS_PORTS
from helpers.policy.objects import ANYWHERE, block, pods_in, to_peers
from helpers.policy.table import require_open, settled, table

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_egr_010_a_dead_family_does_not_cut_clients_off(
    cluster: Cluster, outside: Agent, bench: Bench, evidence: Evidence
) -> None:
    """The order of a name's addresses is recorded; a client with a dead family takes the other.

    Given: a pod, the name of the outside host, which has addresses of both families, and an egress
        policy that leaves the pod the cluster's DNS and one family
    Then: whichever family is dead, a client that does as RFC 8305 says connects over the other one
    Source: RFC 6724 (order of addresses); RFC 8305 (Happy Eyeballs)
    """
    assert cluster.outside is not None  # the fixture `outside` has skipped the test without one
    name, addresses = f"{cluster.outside.container}.", cluster.outside.addresses
    pod = bench.friend
    order = {"glibc, as in the agent's image": preferred(pod.agent, name)}
    findings = []
    for alive in FAMILIES:
        targets = {f"outside {f}": addresses.require(f) for f in FAMILIES}
        steps = plan({pod.label: pod.agent}, targets, FLOWS[:1])
        truth = table(steps, _over(alive))
        require_open(truth)
        dns = to_peers(pods_in(DNS_NAMESPACE, **DNS_LABELS), ports=DNS_PORTS)
        policy = bench.policy(pod, egress=[dns, to_peers(block(ANYWHERE[alive]))])
        with bench.enforced([policy]):
            settled(truth, f"only {alive.kubernetes} is alive")
            known = preferred(pod.agent, name)
            choice = connect(pod.agent, name, outside.port)
        order[f"only {alive} alive"] = [*known, str(choice)]
        findings += choice_finding(choice, name, alive)
    evidence.attach("order.json", order, always=True)
    demand_none(findings)


def _over(family: Family) -> Callable[[Cell], bool]:
    return lambda cell: cell.family is family
