"""RES-006: rounds of pods; no address twice, none left behind, all dual, all in time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from helpers.addressing import sharing_findings
from helpers.findings import listed
from helpers.model import FAMILIES
from helpers.resilience.held import still_held
from helpers.views import PodView

if TYPE_CHECKING:
    from helpers.kube import Object
    from helpers.resilience.traffic import Setting

ROUNDS: Final = 3
PER_NODE: Final = 4  # pods of a round on each node: what one small machine bears beside other tests
CREATED_WITHIN: Final = 15.0  # seconds, for 95 % of pods: until sandbox and network are there
READY_WITHIN: Final = 90.0  # seconds for a whole round
RELEASED_WITHIN: Final = 30.0
SHARE: Final = 0.95
NETWORKED: Final = "PodReadyToStartContainers"  # KEP-3085: sandbox and network are there


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes:
        pods: all pods of the cluster when the round's were Ready.
        mine: those of the round.
        seconds: of each creation, from the kubelet's first word to the pod's network.
        left: addresses still allocated ``RELEASED_WITHIN`` after the pods were deleted.
    """

    pods: tuple[PodView, ...]
    mine: tuple[PodView, ...]
    seconds: tuple[float, ...]
    left: tuple[str, ...]


def creation_seconds(pod: Mapping[str, Any]) -> float | None:
    """From the kubelet's acceptance to sandbox and network, by the API's whole seconds."""
    status = pod.get("status", {})
    started = status.get("startTime")
    for condition in status.get("conditions") or []:
        if condition["type"] == NETWORKED and condition["status"] == "True" and started:
            return (_moment(condition["lastTransitionTime"]) - _moment(started)).total_seconds()
    return None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def churn_findings(rounds: Iterable[Round]) -> list[str]:
    """RES-006."""
    found: list[str] = []
    seconds: list[float] = []
    for number, each in enumerate(rounds, start=1):
        seconds += each.seconds
        for family in FAMILIES:
            found += sharing_findings(each.pods, family)
            found += [
                f"round {number}: pod {pod.label} on {pod.node} is Ready with "
                f"{listed(pod.pod_ips)}: no {family.kubernetes} address"
                for pod in each.mine
                if pod.address(family) is None
            ]
        if each.left:
            found.append(
                f"round {number}: {len(each.left)} addresses of deleted pods are still allocated "
                f"after {RELEASED_WITHIN:g} s: {listed(sorted(each.left)[:4])}: CNI DEL does not "
                "release them"
            )
    if seconds and percentile(seconds, SHARE) > CREATED_WITHIN:
        found.append(
            f"95 % of {len(seconds)} pods had their network {percentile(seconds, SHARE):.0f} s "
            f"after their creation began, allowed are {CREATED_WITHIN:g} s"
        )
    return found


def churned(setting: Setting) -> list[Round]:
    """Make the rounds.

    Raises:
        Blocked: by PODIP-002, when a pod of a round gets no address at all.
        Inconclusive: the pods have addresses and do not become Ready.
    """
    return [_round(setting, number) for number in range(ROUNDS)]


def _round(setting: Setting, number: int) -> Round:
    workloads = setting.workloads
    nodes = [node for node in setting.agents.nodes for _ in range(PER_NODE)]
    names = {
        workloads.create_pod(node, name=f"round-{number}-{index}", labels={"app": "churn"}): node
        for index, node in enumerate(nodes)
    }
    mine = workloads.wait_pods(list(names), families=(), within=READY_WITHIN)
    raw = workloads.kube.objects("v1", "Pod")
    seconds = [s for pod in raw if _named(pod, workloads.namespace, names)
               and (s := creation_seconds(pod)) is not None]  # fmt: skip
    everybody = tuple(PodView.from_api(pod) for pod in raw)
    for name in names:
        workloads.delete_pod(name, grace_seconds=1)
    left = still_held(
        setting.kube,
        {f"{workloads.namespace}/{name}": node for name, node in names.items()},
        RELEASED_WITHIN,
        "addresses of a round of pods are released",
    )
    return Round(everybody, tuple(mine), tuple(seconds), tuple(left))


def _named(pod: Object, namespace: str, names: Iterable[str]) -> bool:
    meta = pod["metadata"]
    return meta.get("namespace") == namespace and meta["name"] in names
