"""RES-005: a node that is restarted comes back with both families, and the others do not notice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from helpers import bird, probes
from helpers.agents import deploy
from helpers.findings import listed
from helpers.flow_model import Flow, Way
from helpers.kube_errors import KubeError
from helpers.model import DualAddresses, Family, Protocol
from helpers.naming import AGENT_NAMESPACE
from helpers.once import once
from helpers.probes import Probe
from helpers.resilience.study import Outcome, Study, everything, observe, outcome
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.resilience.traffic import Place, Setting
    from helpers.views import PodView

BACK_WITHIN: Final = 180.0  # seconds (RES-005)
APART: Final = frozenset({Way.OTHER_NODE, Way.SAME_NODE, Way.EGRESS, Way.INGRESS, Way.NODES})
STEPS: Final = ("node", "addresses", "pods", "BGP", "pod traffic", "NodePort")


@dataclass(slots=True)
class Return:
    """What is back, in seconds since the restart; ``why`` what is still missing."""

    after: dict[str, float] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return set(STEPS) <= self.after.keys()

    def __str__(self) -> str:
        missing = [f"{step}: {self.why.get(step, '')}" for step in STEPS if step not in self.after]
        return listed(missing) if missing else "everything is back"


def return_findings(node: str, family: Family, seen: Return) -> list[str]:
    """RES-005: all of it is back in time; the first that is missing explains the rest."""
    for step in STEPS:
        if step not in seen.after:
            return [
                f"{BACK_WITHIN:g} s after node {node} was restarted its {step} over "
                f"{family.kubernetes} is not back: {seen.why.get(step, 'not looked at')}"
            ]
    return []


def apart_from(node: str, flows: list[Flow]) -> list[Flow]:
    """Flows that do not touch a node; those of Services may choose a backend on it."""
    return [
        flow
        for flow in flows
        if flow.way in APART and flow.source.node != node and not flow.to.endswith(f" {node}")
    ]


def rebooted(setting: Setting, node: str, restart: Callable[[str], None]) -> Outcome:
    """Restart one node with flows between the others around it, once per run."""

    def act(study: Study, place: Place) -> None:
        before = next(view for view in setting.kube.nodes() if view.name == node)
        study.during(f"node {node} restarted", lambda: restart(node))
        began = time.monotonic()
        for family in setting.families:
            looker = _Looker(setting, place, node, family, before.internal_ips, began)

            def come_back(looker: _Looker = looker) -> None:
                with contextlib.suppress(NotSettled):
                    eventually(
                        looker.look,
                        lambda seen: seen.complete,
                        within=max(5.0, BACK_WITHIN - (time.monotonic() - began)),
                        every=2.0,
                        describe=str,
                        what=f"node {node} is back over {looker.family}",
                        retry_on=(KubeError,),
                    )

            study.during(f"{node} comes back over {family}", come_back)
            study.find("RES-005", family, *return_findings(node, family, looker.seen))

    def compute() -> object:
        place = setting.place()
        flows = apart_from(node, place.flows(setting.families))
        if not flows:
            raise Inconclusive("no two other nodes have flows between them")
        return observe(
            f"Restart of node {node}",
            setting.kube,
            setting.agents,
            flows,
            lambda study: act(study, place),
            {"RES-005": everything},
        )

    return outcome(once(setting.state, "resilience-reboot", compute), "RES-005")


@dataclass(slots=True)
class _Looker:
    """Looks at one family of a node that comes back, each thing once the one before it is there."""

    setting: Setting
    place: Place
    node: str
    family: Family
    had: DualAddresses
    began: float
    seen: Return = field(default_factory=Return)

    def look(self) -> Return:
        looks: Mapping[str, Callable[[], str]] = {
            "node": self._node,
            "addresses": self._addresses,
            "pods": self._pods,
            "BGP": self._sessions,
            "pod traffic": self._traffic,
            "NodePort": self._node_port,
        }
        for step in STEPS:
            if step not in self.seen.after:
                missing = looks[step]()
                if missing:
                    self.seen.why[step] = missing
                    break  # the next would only show the same
                self.seen.after[step] = round(time.monotonic() - self.began, 1)
        return self.seen

    def _node(self) -> str:
        view = next((v for v in self.setting.kube.nodes() if v.name == self.node), None)
        return "absent" if view is None else "" if view.ready else "not Ready"

    def _addresses(self) -> str:
        view = next(v for v in self.setting.kube.nodes() if v.name == self.node)
        now, had = view.internal_ips.of(self.family), self.had.of(self.family)
        return "" if now == had else f"InternalIP is {now}, was {had}"

    def _agent_pods(self) -> list[PodView]:
        pods = self.setting.kube.pods(AGENT_NAMESPACE)
        return [pod for pod in pods if pod.node == self.node and not pod.deleting]

    def _pods(self) -> str:
        pods = self._agent_pods()
        waiting = [p.name for p in pods if not p.ready or p.address(self.family) is None]
        if len(pods) < len(deploy.ROLES):
            return f"{len(pods)} agent pods"
        return f"not Ready or without an address: {listed(waiting)}" if waiting else ""

    def _sessions(self) -> str:
        sessions = bird.read_sessions(self.setting.agents.nodes[self.node], self.family)
        if not sessions:
            return f"{bird.DAEMON[self.family]} has no session"
        down = [s.name for s in sessions if not s.established]
        return f"not Established: {listed(down)}" if down else ""

    def _traffic(self) -> str:
        pod = next(p for p in self._agent_pods() if p.labels.get(deploy.ROLE) == deploy.POD_AGENTS)
        return self._reached(
            Probe(Protocol.TCP, pod.addresses.require(self.family), deploy.POD_PORT)
        )

    def _node_port(self) -> str:
        address, port = self.had.of(self.family), self.place.service.node_ports.get("tcp")
        if address is None or port is None:
            return ""
        return self._reached(Probe(Protocol.TCP, address, port))

    def _reached(self, probe: Probe) -> str:
        others = [name for name in self.setting.agents.peers if name != self.node]
        (found,) = probes.run(self.setting.agents.peers[others[0]], [probe])
        return "" if found.reached else f"from a pod on {others[0]}: {found}"
