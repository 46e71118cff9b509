"""What happened in the cluster, on the clock of the flows.

Nodes tell of their routes, rules and addresses, of BIRD's sessions and of the programs that matter
(monitors in the node agents); the API tells of pods, DaemonSets and nodes. Each gap of a flow is
then told with what happened just before and during it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from helpers import bird, clocks
from helpers.calico_config import calico_nodes
from helpers.clocks import Clock
from helpers.flows import LEASE, Remote, start_remote
from helpers.kube_errors import KubeError
from helpers.model import FAMILIES, Family
from helpers.parallel import on_each
from helpers.verdicts import Inconclusive
from helpers.views import NodeView

if TYPE_CHECKING:
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube, Object

SYSTEM: Final = "kube-system"
WATCHED: Final = ("calico-node", "kube-proxy", "calico-kube-controllers", "kube-apiserver")
PROCESSES: Final = ("calico-node", "bird", "bird6", "kube-proxy", "kube-apiserver")
CNI_FILES: Final = (
    "/host/etc/cni/net.d/10-calico.conflist",
    "/host/opt/cni/bin/calico",
    "/host/opt/cni/bin/calico-ipam",
)
LOOK_EVERY: Final = 1.0  # seconds between two looks at the API
BEFORE: Final = 3.0  # seconds before a gap in which its cause is looked for
CAUSES_TOLD: Final = 4
BURST: Final = 2.0  # seconds in which events of one kind and place are told as one
BURST_TOLD: Final = 3  # texts of them
BURSTS: Final = ("route", "rule", "address", "bgp", "process")


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that happened.

    Attributes:
        at: the harness's wall clock.
        kind: route, rule, address, bgp, process, cni, pod, daemonset, node, api, or monitor.
        where: node, or object.
        family: of which it is; None: of none alone.
    """

    at: float
    kind: str
    where: str
    text: str
    family: Family | None = None

    def __str__(self) -> str:
        return f"{self.kind} on {self.where}: {self.text}"


def causes(events: Iterable[Event], family: Family, began: float, ended: float) -> str:
    """What happened just before and during a gap of a flow, most telling kinds first."""
    near = [
        event
        for event in events
        if began - BEFORE <= event.at <= ended and event.family in (family, None)
    ]
    order = ["bgp", "process", "pod", "cni", "daemonset", "api", "node", "address", "rule", "route"]
    counted: dict[tuple[str, str, str], int] = {}
    for event in sorted(near):
        text = event.text if event.kind != "route" else event.text.split(":")[0]
        key = (event.kind, event.where, text)
        counted[key] = counted.get(key, 0) + 1
    told = sorted(counted, key=lambda k: order.index(k[0]) if k[0] in order else len(order))
    lines = [
        f"{where}: {text}"
        + (f" ({counted[kind, where, text]} times)" * (counted[kind, where, text] > 1))
        for kind, where, text in told[:CAUSES_TOLD]
    ]
    if len(told) > CAUSES_TOLD:
        lines.append(f"and {len(told) - CAUSES_TOLD} other events")
    return "; ".join(lines) or "nothing was seen to happen then"


def condensed(events: Iterable[Event]) -> list[Event]:
    """The same with bursts told once: what happened to one kind of thing in one place together.

    A calico-node that restarts is a dozen processes, and two routes for each pod of its node.
    """
    found: list[list[Event]] = []
    last: dict[tuple[str, str, Family | None], list[Event]] = {}
    for event in sorted(events, key=lambda e: e.at):
        key = (event.kind, event.where, event.family)
        burst = last.get(key)
        if event.kind in BURSTS and burst and event.at - burst[0].at <= BURST:
            burst.append(event)
        else:
            last[key] = [event]
            found.append(last[key])
    return [_together(burst) for burst in found]


def _together(burst: Sequence[Event]) -> Event:
    if len(burst) == 1:
        return burst[0]
    told = dict.fromkeys(event.text for event in burst)
    text = "; ".join(list(told)[:BURST_TOLD])
    if len(told) > BURST_TOLD:
        text += f"; and {len(told) - BURST_TOLD} more"
    return replace(burst[0], text=f"{len(burst)} changes: {text}")


def system_namespaces(kube: Kube) -> list[str]:
    """kube-system, and where Calico is installed: its operator has a namespace of its own."""
    return sorted({SYSTEM, *(node.namespace for node in calico_nodes(kube).values())})


# -- the API --------------------------------------------------------------------------------------


def system_state(
    pods: Iterable[Object], sets: Iterable[Object], nodes: Iterable[NodeView]
) -> State:
    """What is compared from look to look: (kind, object) -> its state in words."""
    state: State = {}
    for pod in pods:
        name, spec = pod["metadata"]["name"], pod["spec"]
        if not name.startswith(WATCHED):
            continue
        status = pod.get("status", {})
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []
        )
        restarts = sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or [])
        deleting = " deleting" if "deletionTimestamp" in pod["metadata"] else ""
        where = spec.get("nodeName", "no node")
        said = f"{'Ready' if ready else 'not Ready'}{deleting}, {restarts} restarts"
        state["pod", f"{name} on {where}"] = said
    for found in sets:
        status, meta = found.get("status", {}), found["metadata"]
        images = sorted(c["image"] for c in found["spec"]["template"]["spec"]["containers"])
        state["daemonset", meta["name"]] = (
            f"generation {meta.get('generation')}, {status.get('numberReady', 0)} Ready of "
            f"{status.get('desiredNumberScheduled', 0)}, {', '.join(images)}"
        )
    for node in nodes:
        state["node", node.name] = "Ready" if node.ready else "not Ready"
    return state


State = dict[tuple[str, str], str]


def changes(before: Mapping[tuple[str, str], str], after: State, at: float) -> list[Event]:
    """Events of everything that is not as it was."""
    found = []
    for kind, name in {**before, **after}:
        was, now = before.get((kind, name), "absent"), after.get((kind, name), "absent")
        if was != now:
            found.append(Event(at, kind, name, f"{was} -> {now}"))
    return found


@dataclass(slots=True)
class Watch:
    """Watches while it lives; ``events`` are complete once it has ended.

    Attributes:
        namespaces: where kube-proxy and Calico run.
    """

    kube: Kube
    remotes: dict[str, Remote]
    namespaces: Sequence[str] = (SYSTEM,)
    noted: list[Event] = field(default_factory=list)
    _state: State | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def note(self, kind: str, where: str, text: str) -> None:
        """What the harness itself did, now."""
        self.noted.append(Event(time.time(), kind, where, text))

    def look(self) -> None:
        """One look at the API."""
        try:
            seen = system_state(
                self._each("v1", "Pod"), self._each("apps/v1", "DaemonSet"), self.kube.nodes()
            )
            seen["api", "API server"] = "answers"
        except KubeError:
            seen = {**(self._state or {}), ("api", "API server"): "does not answer"}
        if self._state is not None:
            self.noted += changes(self._state, seen, time.time())
        self._state = seen

    def _each(self, api: str, kind: str) -> list[Object]:
        return [found for space in self.namespaces for found in self.kube.objects(api, kind, space)]

    def keep_looking(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK_EVERY)

    def end(self) -> list[Event]:
        """All events, in order of time.

        What a node that was lost had noted is missing, and an event says so.
        """
        self._stop.set()
        told = on_each(self.remotes, self._told)
        found = [*self.noted, *(event for events in told.values() for event in events)]
        return sorted(found, key=lambda event: event.at)

    def _told(self, node: str) -> list[Event]:
        remote = self.remotes[node]
        try:
            raw = remote.ask("report")["events"]
            clock = Clock(remote.first, clocks.read(remote.agent))
            remote.ask("end")
        except Inconclusive as error:
            return [Event(time.time(), "monitor", node, f"its events are lost: {error}")]
        families = {family.version: family for family in FAMILIES}
        return [
            Event(clock.at(e["at"]), e["kind"], node, e["text"], families.get(e["version"]))
            for e in raw
        ]


@contextmanager
def watching(kube: Kube, agents: AgentPool, *, lease: float = LEASE) -> Iterator[Watch]:
    """Watch nodes and API inside of the block; ask ``end`` for the events.

    Raises:
        Inconclusive: a node agent does not run.
    """
    monitors: list[dict[str, Any]] = [
        {"kind": "routes"},
        {"kind": "processes", "names": PROCESSES, "interval": 1.0},
        {"kind": "files", "paths": CNI_FILES, "interval": 1.0},
        *(
            {"kind": "bird", "socket": bird.SOCKETS[family], "version": family.version}
            for family in FAMILIES
        ),
    ]
    remotes = on_each(
        agents.nodes, lambda node: start_remote(agents.nodes[node], lease, monitors=monitors)
    )
    watch = Watch(kube, remotes, system_namespaces(kube))
    watch.look()
    thread = threading.Thread(target=watch.keep_looking, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch._stop.set()  # noqa: SLF001  # its own thread
        thread.join(30)
