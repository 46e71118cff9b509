"""Whether pods reach each other's link-local addresses: each veth is a link of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from helpers import probes
from helpers.findings import listed
from helpers.model import IPAddress, Protocol
from helpers.pod_netns import POD_INTERFACE
from helpers.probes import Observation, Probe
from helpers.verdicts import Inconclusive
from helpers.waiting import consistently

if TYPE_CHECKING:
    from helpers.agents.client import Agent

SILENT_FOR: Final = 1.0  # seconds
PATIENCE: Final = 0.5  # seconds for one answer; the gateway answers in less than a millisecond


@dataclass(frozen=True, slots=True)
class Isolation:
    """One pod, its gateway's link-local address, and those of other pods by their names."""

    where: str
    agent: Agent
    gateway: IPAddress
    others: Mapping[str, Sequence[IPAddress]]


def demand(pods: Sequence[Isolation]) -> None:
    """CONN-014: no pod's link-local address answers another pod.

    The same probe to the gateway, which is on the link, must be answered first.

    Raises:
        Inconclusive: a gateway does not answer, so silence would prove nothing.
        NotSettled: a link-local address of another pod answered.
    """
    control = probes.run_all({pod.agent: [_echo(pod.gateway)] for pod in pods})
    deaf = [f"{pod.where}: {o}" for pod in pods for o in control[pod.agent] if not o.reached]
    if deaf:
        raise Inconclusive(f"the gateway does not answer a ping: {listed(deaf)}")
    batches = {p.agent: [_echo(a) for held in p.others.values() for a in held] for p in pods}
    consistently(
        lambda: [o for found in probes.run_all(batches).values() for o in found],
        _silent,
        during=SILENT_FOR,
        describe=_told,
        what="link-local addresses of other pods stay silent",
    )


def _echo(address: IPAddress) -> Probe:
    on_link = IPv6Address(f"{address}%{POD_INTERFACE}")
    return Probe(Protocol.ICMP, on_link, timeout=PATIENCE)


def _silent(seen: list[Observation]) -> bool:
    lost = [o for o in seen if o.outcome is probes.Outcome.INCONCLUSIVE]
    if lost:
        raise Inconclusive(str(lost[0]))
    return not any(o.reached for o in seen)


def _told(seen: list[Observation]) -> str:
    answered = listed(o.probe.target for o in seen if o.reached)
    return f"answers from {answered}: the node bridges or proxies between pods' links"
