"""Pods whose readiness a test decides, and how fast EndpointSlices follow it.

A readiness gate (KEP-580) is a condition that somebody else than kubelet sets: no probe, no exec,
and the pod goes on running.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from helpers.kube import STRATEGIC
from helpers.model import FAMILIES, Family
from helpers.services import endpoint_slices, ready_addresses
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.kube import Kube, Object
    from helpers.views import PodView
    from helpers.workloads import ServiceView, Workloads

GATE: Final = "dsc/ready"
PODS_WITHIN: Final = 60.0  # seconds for a pod to run
GATE_WITHIN: Final = 20.0  # seconds for kubelet to follow the gate
READINESS_WITHIN: Final = 10.0  # seconds for the EndpointSlices to follow the pod
# The controller writes the slices of both families in one pass; the rest is reading them.
TOGETHER_WITHIN: Final = 2.0


def gated(pod: Object) -> None:
    """Give a pod manifest the gate; without its condition the pod is not ready."""
    pod["spec"]["readinessGates"] = [{"conditionType": GATE}]


def set_gate(kube: Kube, pod: str, namespace: str, *, ready: bool) -> None:
    """Open or close the gate of a pod."""
    condition = {"type": GATE, "status": "True" if ready else "False"}
    kube.patch(
        "v1",
        "Pod",
        pod,
        {"status": {"conditions": [condition]}},
        namespace,
        content_type=STRATEGIC,
        subresource="status",
    )


def gated_pods(
    workloads: Workloads, nodes: Sequence[str], *, ready: Sequence[bool]
) -> list[PodView]:
    """One gated pod on each of the nodes, running, and ready or not as asked.

    Raises:
        Blocked: by PODIP-002, when a pod gets no address of a family.
        Inconclusive: a pod that is to be ready does not become it.
    """
    placed = zip(nodes, ready, strict=True) if len(nodes) == len(ready) else _on_first(nodes, ready)
    names = {}
    for node, wanted in placed:
        name = workloads.create_pod(node, mutate=gated)
        set_gate(workloads.kube, name, workloads.namespace, ready=wanted)
        names[name] = wanted
    views = {
        pod.name: pod for pod in workloads.wait_pods([n for n, wanted in names.items() if wanted])
    }
    waiting = [name for name, wanted in names.items() if not wanted]
    try:
        running = eventually(
            lambda: [p for p in workloads.kube.pods(workloads.namespace) if p.name in waiting],
            lambda pods: all(p.phase == "Running" and p.pod_ips for p in pods),
            within=PODS_WITHIN,
            every=0.3,
            what="pods with a closed gate run",
            describe=lambda pods: ", ".join(f"{p.name} {p.phase}" for p in pods),
        )
    except NotSettled as error:
        raise Inconclusive(str(error)) from error
    views |= {pod.name: pod for pod in running}
    return [views[name] for name in names]


def _on_first(nodes: Sequence[str], ready: Sequence[bool]) -> list[tuple[str, bool]]:
    """A cluster of one node takes all of them."""
    return [(nodes[0], wanted) for wanted in ready]


# -- following it ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Flip:
    """A change of one pod's readiness.

    Attributes:
        pod: label of the pod.
        ready: what it was changed to.
        followed: seconds from the pod's own change until the slices of a family followed; a
            family that did not follow is absent.
    """

    pod: str
    ready: bool
    followed: dict[Family, float] = field(default_factory=dict)


def flip(kube: Kube, service: ServiceView, pod: PodView, *, ready: bool) -> Flip:
    """Open or close a pod's gate and watch the slices of both families follow.

    Raises:
        Inconclusive: kubelet does not follow the gate.
    """
    seen = Flip(pod.label, ready)
    set_gate(kube, pod.name, pod.namespace, ready=ready)
    try:
        eventually(
            lambda: next(p.ready for p in kube.pods(pod.namespace) if p.name == pod.name),
            lambda now: now is ready,
            within=GATE_WITHIN,
            every=0.1,
            what=f"kubelet makes {pod.label} {'ready' if ready else 'not ready'}",
        )
    except NotSettled as error:
        raise Inconclusive(str(error)) from error
    began = time.monotonic()

    def look() -> Mapping[Family, float]:
        slices = endpoint_slices(kube, service.namespace, service.name)
        for family in FAMILIES:
            follows = (pod.address(family) in ready_addresses(slices, family)) is ready
            if follows and family not in seen.followed:
                seen.followed[family] = time.monotonic() - began
        return seen.followed

    with contextlib.suppress(NotSettled):  # what did not follow is the finding
        eventually(
            look,
            lambda followed: len(followed) == len(FAMILIES),
            within=READINESS_WITHIN,
            every=0.1,
            what=f"EndpointSlices follow the readiness of {pod.label}",
        )
    return seen


def flip_findings(flip: Flip, family: Family) -> list[str]:
    """SVC-006: slices of a family follow in time, and not later than the other family's."""
    state = "ready" if flip.ready else "not ready"
    mine, other = flip.followed.get(family), flip.followed.get(family.other)
    if mine is None:
        also = "did neither" if other is None else f"did after {other:.1f} s"
        return [
            f"pod {flip.pod} became {state}, but its {family.kubernetes} EndpointSlices do not say "
            f"so after {READINESS_WITHIN:g} s (those of {family.other.kubernetes} {also}): look at "
            "kube-controller-manager's endpointslice controller"
        ]
    if other is not None and mine - other > TOGETHER_WITHIN:
        return [
            f"pod {flip.pod} became {state}: its {family.kubernetes} EndpointSlices followed "
            f"{mine - other:.1f} s after those of {family.other.kubernetes}: for that long the "
            "families disagreed about it"
        ]
    return []
