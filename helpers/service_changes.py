"""Services while they change: between one family and two, and when a backend leaves."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from helpers.findings import listed
from helpers.kube import ApiError
from helpers.matrix import Cell, Matrix
from helpers.model import Family, Protocol
from helpers.plan import Step, all_reached, carry_out, folded, none_reached
from helpers.probes import Outcome, Probe
from helpers.services import refusal
from helpers.verdicts import Inconclusive
from helpers.workloads import ServiceView

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.kube import Kube
    from helpers.model import IPNetwork

# Below NodePorts (30000) and ephemeral ports (32768): no one else's flow has them.
PORTS: Final = range(20_000, 30_000)
# Flows that are tried until one is served by the backend that is to leave; 2^-24 find none.
FLOWS_TRIED: Final = 24


def own_port() -> int:
    """A port that no other Service has: an address that was freed may be given out again."""
    return secrets.choice(PORTS)


# -- between one family and two -------------------------------------------------------------------


def set_policy(
    kube: Kube, service: ServiceView, policy: str, ranges: Sequence[IPNetwork]
) -> ServiceView:
    """Change a Service's ipFamilyPolicy and nothing else; what the API made of it.

    Raises:
        AssertionError: the API refused.
    """
    try:
        changed = kube.patch(
            "v1", "Service", service.name, {"spec": {"ipFamilyPolicy": policy}}, service.namespace
        )
    except ApiError as error:
        asked = f"{service.families[0].kubernetes} Service changed to {policy}"
        raise AssertionError(refusal(asked, error, ranges)) from error
    return ServiceView.from_api(changed)


def change_findings(
    before: ServiceView, after: ServiceView, families: Sequence[Family]
) -> list[str]:
    """SVC-004: a change of policy keeps the first clusterIP and has one for each family.

    Args:
        families: the ipFamilies that the Service must have now.
    """
    found = []
    change = f"Service changed from {before.policy} to {after.policy}"
    if after.cluster_ips.all[:1] != before.cluster_ips.all[:1]:
        found.append(
            f"{change}: clusterIP was {listed(before.cluster_ips.all[:1])}, is now "
            f"{listed(after.cluster_ips.all[:1])}: clients that know it are cut off"
        )
    if after.families != tuple(families) or after.cluster_ips.families != tuple(families):
        found.append(
            f"{change}: ipFamilies is [{listed(f.kubernetes for f in after.families)}], clusterIPs "
            f"[{listed(after.cluster_ips.all)}], expected one of each of "
            f"[{listed(f.kubernetes for f in families)}]"
        )
    return found


@dataclass(frozen=True, slots=True)
class Kept:
    """One look at both clusterIPs after the way back to one family."""

    first: Matrix
    second: Matrix

    @classmethod
    def observe(cls, first: Sequence[Step], second: Sequence[Step]) -> Kept:
        answered = carry_out([*first, *second])
        return cls(folded(answered[: len(first)]), folded(answered[len(first) :]))

    def holds(self) -> bool:
        """The first still answers and the second does not.

        Raises:
            Inconclusive: a probe did not run.
        """
        return none_reached(self.second) and all_reached(self.first)

    def __str__(self) -> str:
        return f"kept clusterIPs: {self.first.summary()}; removed: {self.second.summary()}"


# -- when a backend leaves ------------------------------------------------------------------------


def fixed_port_flows(
    clients: Mapping[str, Agent], target: Probe, served_by: str
) -> dict[str, Probe]:
    """For each client, a UDP flow with a source port of its own that one backend serves.

    Raises:
        Inconclusive: a client has no such flow.
    """
    tried = {
        name: [
            _with_port(target, port) for port in secrets.SystemRandom().sample(PORTS, FLOWS_TRIED)
        ]
        for name in clients
    }
    answered = carry_out(
        [
            Step(agent, Cell(name, "clusterIP", target.family, f"port {probe.source_port}"), probe)
            for name, agent in clients.items()
            for probe in tried[name]
        ]
    )
    found: dict[str, Probe] = {}
    for cell, observation in answered:
        if observation.outcome is Outcome.REACHED and observation.server == served_by:
            found.setdefault(cell.source, observation.probe)
    for name in clients:
        if name not in found:
            seen = {str(o.server or o) for cell, o in answered if cell.source == name}
            raise Inconclusive(
                f"none of {FLOWS_TRIED} UDP flows from the {name} is served by {served_by}, so "
                f"that none can be sent elsewhere; they were served by {listed(sorted(seen))}"
            )
    return found


def _with_port(target: Probe, port: int) -> Probe:
    return Probe(target.protocol, target.target, target.port, timeout=1.0, source_port=port)


def continued(
    clients: Mapping[str, Agent], flows: Mapping[str, Probe], served_by: str
) -> list[Step]:
    """The next datagram of each fixed-port flow; only ``served_by`` may answer it."""
    return [
        Step(
            clients[name],
            Cell(name, "clusterIP", flow.family, "udp, fixed port"),
            Probe(
                Protocol.UDP,
                flow.target,
                flow.port,
                source_port=flow.source_port,
                expect=frozenset([served_by]),
            ),
        )
        for name, flow in flows.items()
    ]
