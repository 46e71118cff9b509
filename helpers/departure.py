"""What is left of a pod's host routes after it was deleted (RTE-003), observed once per run.

One pod serves both families: it is made, looked at, and deleted by whichever test asks first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helpers import netstate
from helpers.model import FAMILIES, Family, IPAddress
from helpers.once import once
from helpers.routing import ROUTES_WITHIN, host_route
from helpers.verdicts import Blocked, Inconclusive
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.pool import AgentPool
    from helpers.views import PodView
    from helpers.workloads import Workloads

DELETED_WITHIN: Final = 30.0  # seconds until the API has forgotten a pod


@dataclass(frozen=True, slots=True)
class Departure:
    """One family of a deleted pod.

    Attributes:
        before: routes to the pod's address while it was Ready.
        after: those that were left at last.
        seconds: from the pod's end in the API until none was left; None: some are left.
    """

    pod: str
    node: str
    address: IPAddress
    before: tuple[str, ...]
    after: tuple[str, ...]
    seconds: float | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Departure:
        return cls(
            pod=raw["pod"],
            node=raw["node"],
            address=ip_address(raw["address"]),
            before=tuple(raw["before"]),
            after=tuple(raw["after"]),
            seconds=raw["seconds"],
        )


def departure(
    state: Path, workloads: Workloads, agents: AgentPool, node: str, family: Family
) -> Departure:
    """The one observed departure of the run, in a family.

    Args:
        state: directory shared by all workers of the run.
        node: where the pod is to run.

    Raises:
        Blocked: by PODIP-002, when the new pod did not get an address of the family.
    """
    seen = once(state, "rte-003-departure", lambda: _observe(workloads, agents, node))
    if family.value not in seen:
        raise Blocked("PODIP-002", f"the new pod on {node} got no {family} address", family)
    return Departure.from_json(seen[family.value])


def departure_findings(seen: Departure) -> list[str]:
    """RTE-003: a pod's host route was there, and is gone within 10 s of its end."""
    if not seen.before:
        return [f"{seen.node} has no host route to its new, Ready pod {seen.pod} ({seen.address})"]
    if seen.seconds is None:
        return [
            f"{ROUTES_WITHIN:g} s after pod {seen.pod} was deleted {seen.node} still has "
            f"`{'; '.join(seen.after)}`: what is sent there is lost, also for the next pod with "
            "that address; look in the logs of kubelet (CNI DEL) and calico-node there"
        ]
    return []


def _observe(workloads: Workloads, agents: AgentPool, node: str) -> dict[str, Any]:
    pod = _new_pod(workloads, node)
    agent = agents.nodes[node]
    addresses = {f: address for f in FAMILIES if (address := pod.address(f)) is not None}

    def left() -> dict[Family, list[str]]:
        state = netstate.observe(agent)
        return {f: [str(r) for r in state.to(host_route(a))] for f, a in addresses.items()}

    before = left()
    workloads.delete_pod(pod.name)
    eventually(
        lambda: workloads.kube.get("v1", "Pod", pod.name, pod.namespace),
        lambda found: found is None,
        within=DELETED_WITHIN,
        every=0.3,
        describe=lambda found: "still in the API" if found else "gone",
        what=f"pod {pod.label} is deleted",
    )
    began = time.monotonic()
    gone: dict[Family, float] = {}

    def look() -> dict[Family, list[str]]:
        seen = left()
        for family, routes in seen.items():
            if not routes:
                gone.setdefault(family, time.monotonic() - began)
        return seen

    try:
        after = eventually(
            look,
            lambda seen: not any(seen.values()),
            within=ROUTES_WITHIN,
            describe=lambda seen: "; ".join(r for routes in seen.values() for r in routes),
            what=f"host routes of the deleted pod {pod.label} are gone",
        )
    except NotSettled:
        after = left()
    return {
        family.value: {
            "pod": pod.label,
            "node": node,
            "address": str(address),
            "before": before[family],
            "after": after[family],
            "seconds": _in_time(gone.get(family)),
        }
        for family, address in addresses.items()
    }


def _new_pod(workloads: Workloads, node: str) -> PodView:
    """A Ready pod with an address of at least one family: a missing one blocks only itself.

    Raises:
        Blocked: by PODIP-002, when it gets none at all.
        Inconclusive: it has addresses and does not become Ready.
    """
    name = workloads.create_pod(node)
    try:
        return workloads.wait_pods([name], families=())[0]
    except Inconclusive as error:
        if any(pod.pod_ips for pod in workloads.kube.pods(workloads.namespace)):
            raise
        why = workloads.last_warning(name) or "no event says why"
        raise Blocked("PODIP-002", f"a new pod on {node} gets no address: {why}") from error


def _in_time(seconds: float | None) -> float | None:
    """Seconds, or None for a route that went after the deadline or not at all."""
    return seconds if seconds is not None and seconds <= ROUTES_WITHIN else None
