"""Services with a traffic policy Local, with session affinity, and without endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from helpers.findings import listed
from helpers.matrix import Matrix, explain_matrix
from helpers.model import Family, IPAddress
from helpers.plan import (
    Answered,
    Step,
    all_reached,
    carry_out,
    folded,
    none_reached,
)
from helpers.probes import Outcome
from helpers.services import PREFER
from helpers.verdicts import Inconclusive
from helpers.views import PodView
from helpers.workloads import ServiceView

if TYPE_CHECKING:
    from helpers.workloads import Workloads

LOCAL: Final = "Local"
ON: Final = "dsc/on"  # label of a test's own backends: the node that they are on
# Seconds. A refusal that comes while connect() still holds the socket is not heard (tcp_v6_err), so
# that the second SYN, 1 s later, is refused: always so with IPv6 on Linux 6.18, never with IPv4.
REFUSED_WITHIN: Final = 2.0
NOBODY: Final = {"app": "nobody"}
# The kernel sends one refusal a second to one address, and a few more after a silence
# (icmp_ratelimit): looks that come faster would starve each other.
REFILL: Final = 3.0  # seconds


def backend_on_each(
    workloads: Workloads, nodes: Sequence[str], family: Family
) -> dict[str, PodView]:
    """One pod on each node, with a label that tells which; by node."""
    names = [workloads.create_pod(node, labels={ON: node}) for node in nodes]
    pods = workloads.wait_pods(names, families=[family])
    return dict(zip(nodes, pods, strict=True))


def service_of_each(
    workloads: Workloads, nodes: Iterable[str], **options: Any
) -> dict[str, ServiceView]:
    """For each node a Service whose only backend is the pod of ``backend_on_each`` there.

    Nodes with a guest kernel come last: when theirs answers, their kube-proxy, which takes all that
    it was told at once, knows the others too.
    """
    agents = workloads.agents.nodes.running.values()
    guests = {guest.node for agent in agents for guest in agent.guests}
    in_order = sorted(nodes, key=lambda node: node in guests)
    return {
        node: workloads.service(policy=PREFER, selector={ON: node}, **options) for node in in_order
    }


# -- policy Local ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Locality:
    """One look at a policy Local: what must answer, and what must not, in one round of probes."""

    local: Matrix
    remote: Matrix
    answered: tuple[Answered, ...]  # of ``local``

    @classmethod
    def observe(cls, local: Sequence[Step], remote: Sequence[Step]) -> Locality:
        answered = carry_out([*local, *remote])
        return cls(
            folded(answered[: len(local)]),
            folded(answered[len(local) :]),
            tuple(answered[: len(local)]),
        )

    def holds(self) -> bool:
        """Local endpoints answer, and nothing else does: the ones are the control of the others.

        Raises:
            Inconclusive: a probe did not run.
        """
        return none_reached(self.remote) and all_reached(self.local)

    def __str__(self) -> str:
        lines = [f"with a local endpoint: {self.local.summary()}"]
        if self.remote:
            lines.append(f"without: {self.remote.summary()}")
        leaks = self.remote.only(lambda cell: self.remote[cell] is Outcome.REACHED)
        if leaks:
            lines += explain_matrix(leaks, Matrix.expecting(leaks, Outcome.TIMEOUT))
        return "; ".join(lines)


def preserved_source_findings(
    answered: Iterable[Answered], client: IPAddress, nodes: Mapping[str, Sequence[IPAddress]]
) -> list[str]:
    """SVC-011: through a policy Local the backend sees the client's own address.

    Args:
        client: the address that the client sent from.
        nodes: addresses of the nodes, to say who put theirs in its place.
    """
    found = set()
    for cell, observation in answered:
        seen = observation.peer_seen
        if not observation.reached or seen == client:
            continue
        whose = next((f"node {n}'s" for n, own in nodes.items() if seen in own), "a stranger's")
        found.add(
            f"{cell.detail} from {cell.source} ({client}) to {cell.target}: the backend saw {seen} "
            f"({whose}), although externalTrafficPolicy is Local: something masquerades it; look "
            "at kube-proxy's rules and for other NAT on that node"
        )
    return sorted(found)


# -- session affinity -----------------------------------------------------------------------------


def affinity_findings(
    sticky: Mapping[tuple[str, str], set[str]], free: Mapping[tuple[str, str], set[str]]
) -> list[str]:
    """SVC-012: every client stays with one backend of the Service that has session affinity.

    Args:
        sticky: servers by source and kind, of a Service with sessionAffinity ClientIP.
        free: the same of its twin without: the control.

    Raises:
        Inconclusive: the twin sends a client to one backend, too, so that nothing is told apart.
    """
    alone = [f"{kind} from {source}" for (source, kind), seen in free.items() if len(seen) < 2]
    if alone:
        raise Inconclusive(
            f"a Service without session affinity answered {listed(alone)} from one backend only: "
            "whether the other one pins clients cannot be told"
        )
    return [
        f"{kind} from {source}: served by {listed(sorted(seen)) or 'nobody'} although "
        "sessionAffinity is ClientIP: compare spec.sessionAffinity of the Service with what "
        "kube-proxy on the client's node made of it"
        for (source, kind), seen in sorted(sticky.items())
        if len(seen) != 1
    ]


# -- no endpoints ---------------------------------------------------------------------------------


def slow_refusals(answered: Iterable[Answered]) -> list[str]:
    """SVC-015: refusals that came later than ``REFUSED_WITHIN``."""
    return [
        f"{cell.detail} from {cell.source} to {cell.target}: refused after "
        f"{observation.milliseconds / 1000:.1f} s, not within {REFUSED_WITHIN:g} s: the first "
        "refusal was lost on its way (ICMP errors are filtered or rate-limited)"
        for cell, observation in answered
        if observation.outcome is Outcome.REFUSED
        and observation.milliseconds > REFUSED_WITHIN * 1000
    ]
