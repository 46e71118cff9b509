"""What a pod and its node keep between them whatever policy says: that they find each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.matrix import decide
from helpers.pod_netns import (
    POD_INTERFACE,
    host_end,
    ip,
    neighbours,
    pod_end,
    resolution_findings,
    route_device,
)
from helpers.verdicts import Blocked, Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.model import Family
    from helpers.policy.bench import BenchPod
    from helpers.policy.table import Truth


def forget_neighbours(pod: BenchPod, node: Agent, family: Family) -> None:
    """Flush the neighbour entries at both ends of a pod's veth.

    Raises:
        Inconclusive: they are still there, so that nothing must be resolved again.
    """
    version = f"-{family.version}"
    device = route_device(node, pod.address(family))
    ip(pod.agent, version, "neigh", "flush", "dev", POD_INTERFACE)
    ip(node, version, "neigh", "flush", "dev", device)
    left = {a for a in neighbours(pod.agent) if a.version == family.version}
    if left:
        raise Inconclusive(f"{pod.label}: neighbours {left} are still known after a flush")


def neighbour_findings(pod: BenchPod, node: Agent, family: Family) -> list[str]:
    """Whether the pod has resolved its gateway; a packet must have been sent since the flush.

    Raises:
        Blocked: by PODIP-007, when it has no gateway.
    """
    end = pod_end(pod.agent)
    gateway = end.gateway(family)
    if gateway is None:
        raise Blocked("PODIP-007", f"{pod.label} has no default route", family)
    host = host_end(node, pod.view.addresses)
    return resolution_findings(pod.label, gateway, end.neighbours, host, family)


def seen_once(truth: Truth, hint: str) -> None:
    """One look at a table, each probe at its first attempt.

    Raises:
        AssertionError: it is another than expected.
        Inconclusive: all that differ are probes that did not run.
    """
    try:
        decide(truth.look(), truth.expected)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{hint}") from None
