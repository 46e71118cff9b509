"""Pods whose readiness a test decides, and what EndpointSlices and DNS make of it.

A readiness gate (KEP-580) is a condition that somebody else than kubelet sets: no probe, no exec,
and the pod goes on running. Two such pods go from ready to not ready and back once per run, and
several requirements judge it for each family.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helpers.kube import STRATEGIC
from helpers.model import FAMILIES, Family, Protocol
from helpers.names import (
    ANSWERED_WITHIN,
    Answer,
    Question,
    answers_become,
    holding,
    name_findings,
    resolver_of,
)
from helpers.once import once
from helpers.services import (
    PREFER,
    SERVICE_NAME,
    EndpointSlice,
    pod_addresses,
    ready_addresses,
    selected,
    slice_findings,
)
from helpers.verdicts import Blocked, Inconclusive
from helpers.views import PodView
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube, Object
    from helpers.workloads import ServiceView, Workloads

GATE: Final = "dsc/ready"
GATE_WITHIN: Final = 20.0  # seconds for kubelet to follow the gate
FOLLOWED_WITHIN: Final = 10.0  # seconds for the EndpointSlices to follow the pod
# The controller writes the slices of both families in one pass; the rest is reading them, which
# took 2.2 s on two processors with a load of 40.
TOGETHER_WITHIN: Final = 5.0
STAGES: Final = (("both pods ready", None), ("one pod not ready", False), ("ready again", True))


@dataclass(frozen=True, slots=True)
class Stage:
    """What the API said once it had settled, or the time for that was over.

    Attributes:
        followed: seconds from the pod's change until the slices of a family followed; a family
            that did not is absent. Empty where no pod changed.
    """

    what: str
    pods: tuple[PodView, ...]
    slices: tuple[EndpointSlice, ...]
    followed: Mapping[Family, float]
    changed: bool

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Stage:
        return cls(
            what=raw["what"],
            pods=tuple(map(PodView.from_api, raw["pods"])),
            slices=tuple(map(EndpointSlice.from_api, raw["slices"])),
            followed={Family(name): seconds for name, seconds in raw["followed"].items()},
            changed=raw["changed"],
        )


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was seen of a dual-stack Service and a headless one over two pods.

    Attributes:
        wanted: what its headless name was to be answered while one pod was not ready.
        told: what it was answered.
    """

    service: str
    families: tuple[Family, ...]
    stages: tuple[Stage, ...]
    wanted: Mapping[Question, Answer]
    told: Mapping[Question, Answer]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Readiness:
        wanted, told = {}, {}
        for entry in raw["names"]:
            question = Question(
                entry["client"], entry["name"], entry["record"], Protocol(entry["transport"])
            )
            wanted[question] = holding(entry["wanted"])
            told[question] = Answer(entry["code"], frozenset(entry["records"]))
        stages = tuple(map(Stage.from_json, raw["stages"]))
        return cls(raw["service"], tuple(map(Family, raw["families"])), stages, wanted, told)

    def require(self, family: Family) -> None:
        """Gate: the Services have the family.

        Raises:
            Blocked: by CFG-004.
        """
        if family not in self.families:
            raise Blocked("CFG-004", f"Service {self.service} was not given the family", family)


# -- judgements -----------------------------------------------------------------------------------


def follow_findings(seen: Readiness, family: Family) -> list[str]:
    """SVC-006: slices of a family hold the ready pods' addresses, and both families follow."""
    seen.require(family)
    found = []
    for stage in seen.stages:
        slices, pods = list(stage.slices), list(stage.pods)
        told = slice_findings(seen.service, seen.families, slices, pods, family)
        found += [f"{stage.what}: {finding}" for finding in told]
        if stage.changed and not told:
            found += _late(seen.service, stage, family)
    return found


def _late(service: str, stage: Stage, family: Family) -> list[str]:
    """What is right at the end may have been so in one family long before the other."""
    mine, other = stage.followed.get(family), stage.followed.get(family.other)
    if mine is None or other is None or mine - other <= TOGETHER_WITHIN:
        return []
    return [
        f"{stage.what}: {family.kubernetes} EndpointSlices of Service {service} followed "
        f"{mine - other:.1f} s after those of {family.other.kubernetes}: for that long the "
        "families disagreed about the pod; look at kube-controller-manager's endpointslice "
        "controller"
    ]


def headless_findings(seen: Readiness, family: Family) -> list[str]:
    """SVC-005: the headless name is exactly the ready pods' addresses of the family."""
    seen.require(family)
    return name_findings(
        {q: answer for q, answer in seen.wanted.items() if q.record == family.record}, seen.told
    )


# -- observation ----------------------------------------------------------------------------------


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


def readiness(state: Path, workloads: Workloads, agents: AgentPool) -> Readiness:
    """This run's observation, made by whichever test asks first.

    Raises:
        Blocked: by PODIP-002, when a pod gets no address of a family.
        Inconclusive: pods do not run, or kubelet does not follow the gate.
    """
    return Readiness.from_json(once(state, "readiness", lambda: observe(workloads, agents)))


def observe(workloads: Workloads, agents: AgentPool) -> dict[str, Any]:
    """Let one of two pods lose its readiness and get it back."""
    kube, nodes = workloads.kube, list(agents.pods)
    names = [workloads.create_pod(node, mutate=gated) for node in (nodes[0], nodes[-1])]
    for name in names:
        set_gate(kube, name, workloads.namespace, ready=True)
    service = workloads.service(policy=PREFER)
    headless = workloads.service(policy=PREFER, clusterIP="None")
    pod, _ = workloads.wait_pods(names)
    stages, answers = [], []
    for what, ready in STAGES:
        if ready is not None:
            _change(kube, pod, ready=ready)
        stages.append(_stage(kube, service, what, pod, ready))
        if ready is False:
            answers = _ask(kube, headless, agents)
    label = f"{service.namespace}/{service.name}"
    return {
        "service": label,
        "families": list(service.families),
        "stages": stages,
        "names": answers,
    }


def _change(kube: Kube, pod: PodView, *, ready: bool) -> None:
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


def _stage(
    kube: Kube, service: ServiceView, what: str, pod: PodView, ready: bool | None
) -> dict[str, Any]:
    """Look until the slices of both families equal the ready pods; the last look in any case."""
    began = time.monotonic()
    followed: dict[Family, float] = {}
    last: dict[str, Any] = {}

    def look() -> bool:
        raw = kube.objects(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            service.namespace,
            f"{SERVICE_NAME}={service.name}",
        )
        labels = service.raw["spec"]["selector"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        last["slices"], last["pods"] = raw, kube.objects("v1", "Pod", service.namespace, selector)
        slices = [EndpointSlice.from_api(item) for item in raw]
        pods = [PodView.from_api(item) for item in last["pods"]]
        for family in FAMILIES:
            known = pod.address(family) in ready_addresses(slices, family)
            if ready is known and family not in followed:
                followed[family] = round(time.monotonic() - began, 2)
        return not any(
            slice_findings("", service.families, slices, pods, family) for family in FAMILIES
        )

    with contextlib.suppress(NotSettled):  # what does not follow is the finding
        eventually(
            look,
            bool,
            within=FOLLOWED_WITHIN,
            every=0.1,
            what=f"EndpointSlices hold the ready pods, {what}",
        )
    return {"what": what, "followed": followed, "changed": ready is not None, **last}


def _ask(kube: Kube, headless: ServiceView, agents: AgentPool) -> list[dict[str, Any]]:
    clients: dict[str, Agent] = {f"pod on {node}": agent for node, agent in agents.pods.items()}
    name = resolver_of(next(iter(clients.values()))).service(headless.namespace, headless.name)
    pods = selected(kube, headless)
    addresses = {family: pod_addresses(pods, family) for family in FAMILIES}
    if any(len(ready) != 1 for ready in addresses.values()):
        raise Inconclusive(f"one ready pod was expected behind {name}: {_told(pods)}")
    wanted = {
        Question(client, name, family.record, transport): holding(addresses[family])
        for client in clients
        for family in headless.families
        for transport in (Protocol.UDP, Protocol.TCP)
    }
    seen = answers_become(clients, wanted, ANSWERED_WITHIN)
    return [
        {
            "client": question.client,
            "name": question.name,
            "record": question.record,
            "transport": question.transport.value,
            "wanted": sorted(wanted[question].records),
            "code": answer.code,
            "records": sorted(answer.records),
        }
        for question, answer in seen.items()
    ]


def _told(pods: Iterable[PodView]) -> Sequence[str]:
    return [f"{pod.name} {'ready' if pod.ready else 'not ready'} {pod.pod_ips}" for pod in pods]
