"""Which ports a policy opens: NPOL-008."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.gates import require_node_pairs
from helpers.model import Family, Protocol
from helpers.plan import Kind
from helpers.policy.bench import EXTRA_PORTS, PORT, SCTP_PORTS, Bench, has_sctp
from helpers.policy.objects import from_peers, port
from helpers.policy.table import demand_enforced, table

if TYPE_CHECKING:
    from clusters.api import Cluster

# The rules of the policy, and what they open. The name `web` is TCP 8081, `data` is UDP 8082.
RULES: Final = [
    port("web", "TCP"),
    port("data", "UDP"),
    port(8083, "TCP", 8084),
    port(8084, "UDP", 8085),
    port(8081, "SCTP"),
]
OPEN: Final = frozenset(
    ("tcp 8081", "udp 8082", "tcp 8083", "tcp 8084", "udp 8084", "udp 8085", "sctp 8081")
)
WITHOUT_SCTP: Final = "SCTP was not tried: no two agents are on nodes whose kernel has it.\n"


def test_npol_008_ports_are_opened_by_name_number_and_range(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench, evidence: Evidence
) -> None:
    """Named ports, port ranges and protocols are matched alike in both families.

    Given: a pod with six TCP and six UDP ports, and a policy that opens one of each by the name
        that the pod gives it and two of each by a range; where a node's kernel has SCTP, the pod
        is on that node, and one of its two SCTP ports is opened, too
    Then: exactly these are open to pods on every node and to the outside: not the same number of
        another protocol, not the neighbours of a range
    Source: Kubernetes NetworkPolicy (named ports); KEP-2079 (endPort); KEP-614 (SCTP)
    """
    require_node_pairs(cluster.state, agents, family)
    pod = bench.speaks_sctp or bench.protected
    clients = bench.clients(pod, family)
    kinds = [
        Kind(f"{protocol} {number}", protocol, number)
        for protocol in (Protocol.TCP, Protocol.UDP)
        for number in (PORT, *EXTRA_PORTS)
    ]
    steps = bench.to_pod(clients, pod, family, kinds)
    speaking = {name: agent for name, agent in clients.items() if has_sctp(agent)}
    if bench.speaks_sctp is not None and speaking:
        sctp = [Kind(f"sctp {number}", Protocol.SCTP, number) for number in SCTP_PORTS]
        steps += bench.to_pod(speaking, pod, family, sctp)
    else:
        evidence.attach("sctp.txt", WITHOUT_SCTP, always=True)

    demand_enforced(
        table(steps, lambda cell: cell.detail in OPEN),
        bench.enforced([bench.policy(pod, ingress=[from_peers(ports=RULES)])]),
        "ingress to some ports",
    )
