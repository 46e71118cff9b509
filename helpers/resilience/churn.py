"""New pods while the cluster is disturbed: how long until they have both families, and answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

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
ANSWERS_WITHIN: Final = 5.0  # seconds from Ready until a new connection to it succeeds
BETWEEN: Final = 6.0  # seconds between two new pods
LEFT_ALIVE: Final = 4


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod that was made meanwhile.

    Attributes:
        ready_after: seconds from creation to Ready, None: not within ``DUAL_WITHIN``.
        addresses: what it has.
        answered_after: by family, seconds from Ready to the first connection; None: never.
        problem: what the events say of it.
    """

    pod: str
    node: str
    ready_after: float | None
    addresses: tuple[str, ...]
    answered_after: dict[Family, float | None]
    problem: str | None = None


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
                f"{where} is Ready and did not answer over {family.kubernetes} for "
                f"{ANSWERS_WITHIN:g} s"
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
            self._thread.join(DUAL_WITHIN + 3 * ANSWERS_WITHIN)
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
        answered = {f: self._answers(pod, f) for f in FAMILIES if pod.address(f) is not None}
        self.workloads.delete_pod(name)
        return NewPod(name, node, ready, pod.pod_ips, answered)

    def _answers(self, pod: PodView, family: Family) -> float | None:
        """Seconds until a new connection from another node's pod succeeds."""
        others = [node for node in self.agents.peers if node != pod.node] or [str(pod.node)]
        agent = self.agents.peers[others[0]]
        address = pod.addresses.require(family)
        began = time.monotonic()
        probe = Probe(Protocol.TCP, address, agent.port, timeout=1.0)
        try:
            eventually(
                lambda: probes.run(agent, [probe])[0],
                lambda seen: seen.reached,
                within=ANSWERS_WITHIN,
                every=0.2,
                describe=str,
                what=f"new pod {pod.label} answers over {family}",
            )
        except (NotSettled, Undecided):
            return None
        return time.monotonic() - began
