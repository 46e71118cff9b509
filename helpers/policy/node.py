"""What a pod and its node keep between them whatever policy says: neighbours, kubelet's probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from helpers.agents import deploy
from helpers.kube import Object
from helpers.matrix import Matrix, decide
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
from helpers.waiting import NotSettled, consistently, eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.model import Family, IPAddress
    from helpers.policy.bench import BenchPod
    from helpers.policy.table import Truth
    from helpers.workloads import Workloads

READY_WITHIN: Final = 40.0  # seconds for a new pod and kubelet's first successful probe
PROBED_FOR: Final = 5.0  # seconds; kubelet probes every second and needs one failure to say so


# -- neighbours -----------------------------------------------------------------------------------


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


# -- kubelet --------------------------------------------------------------------------------------


def asked_by_kubelet(target: IPAddress) -> Callable[[Object], None]:
    """Make a pod whose readiness is kubelet's own TCP probe of somebody else's address.

    kubelet asks a pod's own readiness at its primary address only; ``host`` leads it to the
    address of either family, from the same process and the same node.
    """

    def mutate(pod: Object) -> None:
        pod["spec"]["containers"][0]["readinessProbe"] = {
            "tcpSocket": {"host": str(target), "port": deploy.POD_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 1,
        }

    return mutate


def demand_probed(workloads: Workloads, asker: str, target: BenchPod, truth: Truth) -> None:
    """kubelet's probe of the target succeeds and goes on succeeding, while the table holds.

    Raises:
        AssertionError: the pod whose readiness it is does not become or stay Ready.
        Inconclusive: that pod does not run.
    """
    where = f"kubelet on {target.node} probes {target.label}"

    def ready() -> bool:
        return any(p.name == asker and p.ready for p in workloads.kube.pods(workloads.namespace))

    try:
        eventually(ready, bool, within=READY_WITHIN, every=0.5, what=f"{where}: it succeeds")
        seen = consistently(
            lambda: (ready(), truth.look()),
            lambda both: both == (True, truth.expected),
            during=PROBED_FOR,
            describe=lambda both: f"{'succeeds' if both[0] else 'fails'}; {truth.told(both[1])}",
            what=f"{where}: it goes on succeeding under deny-all",
        )
    except NotSettled as error:
        warning = workloads.last_warning(asker) or "no event"
        if "probe failed" not in warning and not isinstance(error.last, tuple):
            raise Inconclusive(
                f"the pod that kubelet judges by it does not run: {warning}"
            ) from error
        raise AssertionError(f"{error}\nlast event: {warning}") from error
    assert isinstance(seen[1], Matrix)
