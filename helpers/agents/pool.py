"""All agents of a run: deployed once by whichever worker asks first, connected by each worker.

``AgentPool.open`` waits until the agents run. One that does not run is not silently left out:
asking for it says why, as ``Blocked`` (its pod has no network) or ``Inconclusive``.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from helpers.agents import deploy
from helpers.agents.client import Agent, Loss
from helpers.agents.transport import (
    OUTSIDE_RUN,
    REMOTE_RUN,
    Connect,
    ExecTransport,
    ProcessTransport,
    StreamLostError,
    Transport,
)
from helpers.kube import Kube
from helpers.model import DualAddresses
from helpers.naming import AGENT_NAMESPACE
from helpers.once import once
from helpers.verdicts import Blocked, Inconclusive, Undecided
from helpers.views import NodeView, PodView
from helpers.waiting import NotSettled, eventually

_TITLES: Final = {
    deploy.POD_AGENTS: "pod agent",
    deploy.PEER_AGENTS: "peer agent",
    deploy.NODE_AGENTS: "node agent",
}
TYPED: Final = "kubectl -n {namespace} exec {{pod}} -c agent --"
KERNEL_LABEL: Final = "dualstack-conformance/kernel"  # clusters.render_kind puts it on nodes
READY_WITHIN: Final = 240.0  # seconds; a node with a guest kernel unpacks and starts slowly


class OutsideHost(Protocol):
    """The part of ``clusters.api.Outside`` that is needed here."""

    @property
    def container(self) -> str: ...

    @property
    def docker(self) -> tuple[str, ...]: ...

    @property
    def internet(self) -> DualAddresses: ...


@dataclass(frozen=True, slots=True)
class _Deployed:
    """One agent pod as it was found when the pool was deployed; ``why`` it does not run, if so."""

    role: str
    node: str
    pod: str
    addresses: tuple[str, ...]
    why: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "node": self.node,
            "pod": self.pod,
            "addresses": list(self.addresses),
            "why": self.why,
        }


class AgentMap(Mapping[str, Agent]):
    """Agents by node name. Looking at a set with holes raises, so that no test tests less.

    Args:
        missing: node name -> what to raise for an agent that does not run.
    """

    def __init__(self, agents: Mapping[str, Agent], missing: Mapping[str, Undecided]) -> None:
        self.running = dict(agents)
        self.missing = dict(missing)

    def __getitem__(self, node: str) -> Agent:
        if node in self.missing:
            raise self.missing[node]
        return self.running[node]

    def __iter__(self) -> Iterator[str]:
        for reason in self.missing.values():
            raise reason
        return iter(self.running)

    def __len__(self) -> int:
        return len(self.running) + len(self.missing)


class AgentPool:
    """The agents of one cluster, as one worker sees them.

    Attributes:
        pods: node name -> agent in the pod network of that node.
        peers: node name -> agent in a second pod of that node.
        nodes: node name -> agent in the node's own network (privileged, host files in /host).
        outside: the agent beyond the cluster, None when there is none.
        losses: agents that this process lost since ``drain_losses`` was last called.
    """

    def __init__(
        self,
        kube: Kube,
        deployed: list[_Deployed],
        outside: OutsideHost | None = None,
        engine: Mapping[str, str] | None = None,
        *,
        guests: Sequence[str] = (),
    ) -> None:
        self._kube = kube
        # The node agents of nodes with a guest kernel; every agent knows them all.
        self._guests: list[Agent] = []
        self.losses: list[Loss] = []
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str, str], Agent] = {}  # namespace, pod, uid
        self._groups = {role: self._map(deployed, role) for role in deploy.ROLES}
        self.pods = self._groups[deploy.POD_AGENTS]
        self.peers = self._groups[deploy.PEER_AGENTS]
        self.nodes = self._groups[deploy.NODE_AGENTS]
        self._guests += (agent for node, agent in self.nodes.running.items() if node in guests)
        self.outside = self._outside_agent(outside, engine or {}) if outside else None

    @classmethod
    def open(
        cls,
        kube: Kube,
        state: Path,
        *,
        image: str,
        pull_policy: str,
        outside: OutsideHost | None = None,
        engine: Mapping[str, str] | None = None,
    ) -> AgentPool:
        """Deploy the agents (once per ``state`` directory) and return them, not yet connected.

        Args:
            engine: environment that reaches the engine of ``outside``, e.g. ``DOCKER_HOST``.

        Raises:
            Inconclusive: they could not be deployed at all.
        """
        stored = once(state, "agents", lambda: _deploy(kube, image, pull_policy))
        deployed = [_Deployed(**{**e, "addresses": tuple(e["addresses"])}) for e in stored]
        guests = once(state, "guests", lambda: [n.name for n in kube.nodes() if _guest(n)])
        return cls(kube, deployed, outside, engine, guests=guests)

    def for_pod(self, namespace: str, pod: str) -> Agent:
        """An agent in any pod that runs the agent container; the same one when asked again.

        Raises:
            LookupError: there is no such pod.
        """
        found = self._kube.get("v1", "Pod", pod, namespace)
        if found is None:
            raise LookupError(f"there is no pod {namespace}/{pod}")
        view = PodView.from_api(found)
        with self._lock:
            key = (namespace, pod, view.uid)
            if key not in self._made:
                port = deploy.HOST_POD_PORT if view.host_network else deploy.POD_PORT
                self._made[key] = Agent(
                    f"agent in {view.label}",
                    lambda: ExecTransport(self._kube, namespace, pod, REMOTE_RUN, "agent"),
                    addresses=view.addresses,
                    node=view.node,
                    port=port,
                    guests=self._guests,
                    identity=pod,
                    on_loss=self.losses.append,
                    typed=TYPED.format(namespace=namespace),
                )
            return self._made[key]

    def drain_losses(self) -> list[Loss]:
        """The losses since the last call, oldest first."""
        taken = len(self.losses)  # sessions of other threads may add to it meanwhile
        drained, self.losses[:taken] = self.losses[:taken], []
        return drained

    def replaced(self) -> list[str]:
        """Agents whose pod is not the one that others have been sending to, in words.

        An evicted pod's address answers nobody, or somebody else: what was sent to it proves
        nothing. Those that run again elsewhere are known by their new address from now on.

        Raises:
            KubeError: the API server does not say.
        """
        pods = self._kube.pods(AGENT_NAMESPACE)
        alive = {pod.name: pod for pod in pods if not (pod.deleting or pod.ended)}
        found = []
        for role, group in self._groups.items():
            for node, agent in group.running.items():
                now = alive.get(agent.identity)
                if now is not None and now.pod_ips == tuple(map(str, agent.addresses.all)):
                    continue
                found.append(f"the {agent.name} is no longer {agent.identity}{_fate(pods, agent)}")
                successor = now or next((p for p in alive.values() if _runs(p, role, node)), None)
                if successor is not None:
                    agent.moved(successor.name, successor.addresses)
        return found

    def release(self, namespace: str) -> None:
        """Close the agents in the pods of one namespace, before it is deleted."""
        with self._lock:
            gone = [key for key in self._made if key[0] == namespace]
            agents = [self._made.pop(key) for key in gone]
        for agent in agents:
            agent.close()

    def close(self) -> None:
        """End all sessions of this process. The agents themselves stay for the other workers."""
        agents = list(self._made.values())
        for group in self._groups.values():
            agents += group.running.values()
        if self.outside:
            agents.append(self.outside)
        for agent in agents:
            agent.close()

    def _map(self, deployed: list[_Deployed], role: str) -> AgentMap:
        mine = [entry for entry in deployed if entry.role == role]
        running = {e.node: self._daemon_agent(e) for e in mine if e.why is None}
        missing = {e.node: _absence(e) for e in mine if e.why is not None}
        return AgentMap(running, missing)

    def _daemon_agent(self, entry: _Deployed) -> Agent:
        in_pods = entry.role != deploy.NODE_AGENTS
        agent = Agent(
            f"{_TITLES[entry.role]} on {entry.node}",
            _link(self._kube, entry, lambda: agent),
            addresses=DualAddresses.parse(entry.addresses),
            node=entry.node,
            port=deploy.POD_PORT if in_pods else deploy.NODE_PORT,
            guests=self._guests,
            identity=entry.pod,
            on_loss=self.losses.append,
            typed=TYPED.format(namespace=AGENT_NAMESPACE),
        )
        return agent

    def _outside_agent(self, outside: OutsideHost, engine: Mapping[str, str]) -> Agent:
        argv = [*outside.docker, "exec", "-i", outside.container, *OUTSIDE_RUN]
        return Agent(
            "outside agent",
            lambda: ProcessTransport(argv, engine),
            addresses=outside.internet,
            port=deploy.POD_PORT,
            guests=self._guests,
            on_loss=self.losses.append,
            typed=shlex.join([*outside.docker, "exec", outside.container]),
        )


def _link(kube: Kube, entry: _Deployed, agent: Callable[[], Agent]) -> Connect:
    """Connects to the pod of the record; from the second time on, to whichever replaced it."""
    pods = [entry.pod]

    def connect() -> Transport:
        if not pods:
            current = [
                p
                for p in kube.pods(AGENT_NAMESPACE, f"{deploy.ROLE}={entry.role}")
                if _runs(p, entry.role, entry.node)
            ]
            if not current:
                raise StreamLostError(f"no {entry.role} pod is Ready on {entry.node} now")
            pods.append(current[0].name)
            agent().moved(current[0].name, current[0].addresses)
        return ExecTransport(kube, AGENT_NAMESPACE, pods.pop(), REMOTE_RUN, "agent")

    return connect


def _runs(pod: PodView, role: str, node: str) -> bool:
    """Whether it is a pod of this role on this node that can be asked."""
    mine = pod.labels.get(deploy.ROLE) == role and pod.node == node
    return mine and pod.ready and not pod.deleting and not pod.ended


def _fate(pods: Sequence[PodView], agent: Agent) -> str:
    was = next((pod for pod in pods if pod.name == agent.identity), None)
    if was is None:
        return ", which is gone"
    if was.ended or was.deleting:
        return f", which is {'going' if was.deleting else was.phase}"
    return f", which has {', '.join(was.pod_ips) or 'no address'} now"


def _guest(node: NodeView) -> bool:
    return node.labels.get(KERNEL_LABEL) == "guest"


def _absence(entry: _Deployed) -> Undecided:
    text = f"{entry.role} on {entry.node} does not run: {entry.why}"
    if entry.role != deploy.NODE_AGENTS and not entry.addresses:
        return Blocked("PODIP-002", text)
    return Inconclusive(text)


def _deploy(kube: Kube, image: str, pull_policy: str) -> list[dict[str, Any]]:
    """Apply the manifests and wait; JSON of what runs and of what does not."""
    kube.apply(deploy.manifests(image, pull_policy))
    nodes = [node.name for node in kube.nodes()]

    def observe() -> list[_Deployed]:
        return _found(nodes, kube.pods(AGENT_NAMESPACE))

    try:
        found = eventually(
            observe,
            lambda agents: all(agent.why is None for agent in agents),
            within=READY_WITHIN,
            every=0.5,
            what="agents run on every node",
            describe=lambda agents: (
                "; ".join(f"{a.role} on {a.node}: {a.why}" for a in agents if a.why) or "all run"
            ),
        )
    except NotSettled:
        # What does not run is told to whoever asks for it; the others can work.
        found = observe()
    return [agent.to_json() for agent in found]


def _found(nodes: list[str], pods: list[PodView]) -> list[_Deployed]:
    version = deploy.agent_version()
    current = {
        (pod.labels.get(deploy.ROLE), pod.node): pod
        for pod in pods
        if not pod.deleting
        and not pod.ended  # an evicted pod stays beside the one that replaces it
        and pod.annotations.get(deploy.VERSION) == version
    }
    found = []
    for role in deploy.ROLES:
        for node in nodes:
            pod = current.get((role, node))
            if pod is None:
                found.append(_Deployed(role, node, "", (), "it has no pod yet"))
                continue
            why = None if pod.ready and pod.pod_ips else pod.waiting or f"it is {pod.phase}"
            found.append(_Deployed(role, node, pod.name, pod.pod_ips, why))
    return found
