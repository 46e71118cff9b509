"""New pods while the cluster is disturbed: how long until they have both families, and answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from helpers import probes
from helpers.findings import listed
from helpers.kube_errors import KubeError
from helpers.model import FAMILIES, Family, Protocol
from helpers.probes import Probe
from helpers.verdicts import Undecided
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.pool import AgentPool
    from helpers.views import PodView
    from helpers.workloads import Workloads

DUAL_WITHIN: Final = 60.0  # seconds from its creation until a pod has an address of each family
ANSWERS_AT_LEAST: Final = 5.0  # seconds that a pod has to answer, however late it was Ready
BETWEEN: Final = 6.0  # seconds between two new pods


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod that was made meanwhile.

    Attributes:
        ready_after: seconds from creation to Ready, None: not within ``DUAL_WITHIN``.
        addresses: what it has.
        answered_after: by family, seconds from Ready to the first connection; None: not within
            ``DUAL_WITHIN`` of its creation. Nobody reaches a new pod of a node whose Felix is
            away: its interface is in no chain yet.
        problem: what the events say of it.
    """

    pod: str
    node: str
    ready_after: float | None
    addresses: tuple[str, ...]
    answered_after: dict[Family, float | None]
    problem: str | None = None


def new_pod_record(pod: NewPod) -> dict[str, Any]:
    """The same as evidence."""
    answered = {family.value: seconds for family, seconds in pod.answered_after.items()}
    return {
        "pod": pod.pod,
        "node": pod.node,
        "readyAfterSeconds": None if pod.ready_after is None else round(pod.ready_after, 2),
        "addresses": list(pod.addresses),
        "answeredAfterReadySeconds": answered,
        "problem": pod.problem,
    }


def new_pod_findings(pods: Iterable[NewPod], family: Family) -> list[str]:
    """RES-002: every new pod has the family in time, and answers over it."""
    found = []
    for pod in pods:
        where = f"pod {pod.pod}, made on {pod.node} meanwhile,"
        mine = [a for a in pod.addresses if Family.of(a) is family]
        if pod.ready_after is None and not mine:
            found.append(
                f"{where} has no {family.kubernetes} address {DUAL_WITHIN:g} s after its creation: "
                f"{pod.problem or 'no event says why'}"
            )
        elif not mine:
            found.append(f"{where} is Ready with {listed(pod.addresses)} only: no {family} address")
        elif pod.ready_after is None:
            found.append(f"{where} has {mine[0]} and is not Ready after {DUAL_WITHIN:g} s")
        elif pod.answered_after.get(family) is None:
            found.append(
                f"{where} is Ready and did not answer over {family.kubernetes} within "
                f"{DUAL_WITHIN:g} s of its creation"
            )
    return found


@dataclass(slots=True)
class Churn:
    """Makes a pod on one node after the other until it is stopped."""

    workloads: Workloads
    agents: AgentPool
    nodes: Sequence[str]
    made: list[NewPod] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _trouble: Exception | None = None

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> list[NewPod]:
        """Stop after the pod that is being made.

        Raises:
            Exception: what kept pods from being made at all.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(DUAL_WITHIN + 3 * ANSWERS_AT_LEAST)
        if self._trouble is not None:
            raise self._trouble
        return self.made

    def _work(self) -> None:
        try:
            for node in itertools.cycle(self.nodes):
                if self._stop.is_set():
                    return
                self.made.append(self._one(node))
                self._stop.wait(BETWEEN)
        except Exception as error:  # raised again by ``end``, in the test's own thread
            self._trouble = error

    def _one(self, node: str) -> NewPod:
        name = self.workloads.create_pod(node, labels={"app": "churn"})
        began = time.monotonic()

        def look() -> list[PodView]:
            pods = self.workloads.kube.pods(self.workloads.namespace)
            return [pod for pod in pods if pod.name == name]

        try:
            (pod,) = eventually(
                look,
                lambda pods: bool(pods) and pods[0].ready,
                within=DUAL_WITHIN,
                every=0.3,
                describe=lambda pods: listed(p.waiting or p.phase for p in pods),
                what=f"new pod on {node}",
                retry_on=(KubeError,),
            )
        except NotSettled:
            seen = look()
            problem = self.workloads.last_warning(name)
            ips = seen[0].pod_ips if seen else ()
            return NewPod(name, node, None, ips, {}, problem)
        ready = time.monotonic() - began
        answered = self._answers(pod, max(DUAL_WITHIN - ready, ANSWERS_AT_LEAST))
        self.workloads.delete_pod(name)
        return NewPod(name, node, ready, pod.pod_ips, answered)

    def _answers(self, pod: PodView, within: float) -> dict[Family, float | None]:
        """Seconds until a new connection from another node's pod succeeds, both families at once.

        One after the other, the second would have had the time of the first as well.
        """
        others = [node for node in self.agents.peers if node != pod.node] or [str(pod.node)]
        agent = self.agents.peers[others[0]]
        began = time.monotonic()
        answered: dict[Family, float | None] = {
            family: None for family in FAMILIES if pod.address(family) is not None
        }

        def silent() -> list[Family]:
            waiting = [family for family, seconds in answered.items() if seconds is None]
            seen = probes.run(
                agent,
                [
                    Probe(Protocol.TCP, pod.addresses.require(f), agent.port, timeout=1.0)
                    for f in waiting
                ],
            )
            for family, each in zip(waiting, seen, strict=True):
                if each.reached:
                    answered[family] = round(time.monotonic() - began, 2)
            return [family for family, seconds in answered.items() if seconds is None]

        with suppress(NotSettled, Undecided):
            eventually(
                silent,
                lambda missing: not missing,
                within=within,
                every=0.2,
                describe=listed,
                what=f"new pod {pod.label} answers",
            )
        return answered
