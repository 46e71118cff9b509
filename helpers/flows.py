"""Running continuous flows: started in agents, looked at, stopped, told.

They run in processes of their own beside the agents (``helpers.agents.remote.streams``): a
session that is cut, by an API server that restarts for instance, does not cut them.

    with flowing(flows) as running:
        ...                       # whatever is to be survived
    for report in running.stop():
        print(report)
"""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from helpers import clocks
from helpers.agents.client import Agent
from helpers.clocks import Clock, Reading
from helpers.flow_model import Flow, FlowKind, FlowReport, Gap, Reset, Stall
from helpers.parallel import on_each
from helpers.verdicts import Inconclusive
from helpers.waiting import consistently

LEASE: Final = 900.0  # seconds after which flows that nobody asks for end by themselves
WIRE_KIND: Final = {FlowKind.IDLE: "tcp"}

Json = dict[str, Any]
Listener = tuple[Agent, int, int | None]  # agent, IP version, port


@dataclass(slots=True)
class Remote:
    """The process of one agent: flows that it sends, or ports that it listens on."""

    agent: Agent
    token: str
    pid: int
    ports: list[int]
    first: Reading

    def ask(self, what: str, **more: Any) -> Json:
        """Ask the process, over a new session when the old one was cut meanwhile.

        Raises:
            Inconclusive: the agent does not come back, or the process is gone.
        """
        request = {"ask": what, **more}
        try:
            return self.agent.call_one("flows_ask", token=self.token, request=request)
        except Inconclusive:
            # The session may be what was lost, not the flows.
            return self.agent.call_one("flows_ask", token=self.token, request=request)


def start_remote(agent: Agent, lease: float = LEASE, **spec: Any) -> Remote:
    """Start a process of flows, receivers or monitors beside an agent.

    Raises:
        Inconclusive: it did not begin, e.g. because a port is taken.
    """
    first = clocks.read(agent)
    answer = agent.call_one("flows_start", 30.0, lease=lease, **spec)
    return Remote(agent, answer["token"], answer["pid"], answer["ports"], first)


@dataclass(slots=True)
class RunningFlows:
    """Flows that run. ``look`` at them as often as you like, ``stop`` them once."""

    senders: dict[Agent, Remote] = field(default_factory=dict)
    receivers: dict[Agent, Remote] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)  # by id
    nonces: dict[str, str] = field(default_factory=dict)  # of UDP flows, by id
    ended: bool = False

    def look(self) -> list[FlowReport]:
        """What became of the flows so far; what was sent just now is left out.

        Raises:
            Inconclusive: an agent was lost.
        """
        return self._reports(final=False)

    def stop(self) -> list[FlowReport]:
        """End the flows, wait until what is on its way has come or is late, and tell.

        Raises:
            Inconclusive: an agent was lost, and with it what its flows saw.
        """
        on_each(self.senders, lambda agent: self.senders[agent].ask("halt"))
        self._drained()
        reports = self._reports(final=True)
        self.end()
        return reports

    def end(self) -> None:
        """End all processes; those of lost agents end by themselves after their lease."""
        if self.ended:
            return
        self.ended = True
        remotes = [*self.senders.values(), *self.receivers.values()]

        def ask(number: int) -> None:
            with contextlib.suppress(Inconclusive):
                remotes[number].ask("end")

        on_each(range(len(remotes)), ask)

    def _drained(self) -> None:
        """Until what is on its way has come, or is late."""
        patience = max((flow.limit for flow in self.flows.values()), default=0.0) + 0.2
        consistently(
            lambda: "waiting for the last answers",
            bool,
            during=patience,
            every=patience,
            what="flows have come to rest",
        )

    def _reports(self, *, final: bool) -> list[FlowReport]:
        seen = on_each(self.receivers, lambda agent: self.receivers[agent].ask("received"))
        arrived: dict[str, list[Json]] = defaultdict(list)
        for answer in seen.values():
            for receiver in answer["received"]:
                for nonce, told in receiver.items():
                    arrived[nonce].append(told)
        delivered = {
            ident: [told["bits"] for told in arrived[nonce]]
            for ident, nonce in self.nonces.items()
            if nonce in arrived
        }

        def report(agent: Agent) -> tuple[Clock, Json]:
            remote = self.senders[agent]
            mine = {i: bits for i, bits in delivered.items() if self.flows[i].source is agent}
            answer = remote.ask("report", delivered=mine, final=final)
            return Clock(remote.first, clocks.read(agent)), answer["flows"]

        told = on_each(self.senders, report)
        reports = []
        for ident, flow in self.flows.items():
            clock, raw = told[flow.source]
            datagrams = arrived.get(self.nonces.get(ident, ""), [])
            reports.append(_report(flow, clock, raw[ident], datagrams))
        return reports


@contextmanager
def flowing(flows: Sequence[Flow], *, lease: float = LEASE) -> Iterator[RunningFlows]:
    """Flows that run inside of the block; ``stop`` them for their reports, in it or after it.

    Args:
        lease: seconds after which they end although nobody stopped them.

    Raises:
        Inconclusive: they could not be started.
    """
    running = RunningFlows()
    try:
        start(running, flows, lease)
        yield running
    except BaseException:
        running.end()
        raise


def start(running: RunningFlows, flows: Sequence[Flow], lease: float = LEASE) -> None:
    """Receivers first, then all senders at once."""
    listeners: dict[Agent, list[Listener]] = defaultdict(list)
    for flow in flows:
        for agent in flow.receivers:
            listener = (agent, flow.family.version, flow.listen)
            if listener not in listeners[agent]:
                listeners[agent].append(listener)
    running.receivers.update(on_each(listeners, lambda a: _listening(a, listeners[a], lease)))
    ports = {
        listener: port
        for agent, mine in listeners.items()
        for listener, port in zip(mine, running.receivers[agent].ports, strict=True)
    }
    specs: dict[Agent, list[Json]] = defaultdict(list)
    for number, flow in enumerate(flows):
        ident = str(number)
        running.flows[ident] = flow
        spec = _wire(ident, flow)
        if flow.kind is FlowKind.UDP:
            running.nonces[ident] = spec["nonce"] = secrets.token_hex(8)
            spec["port"] = flow.port or ports[(flow.receivers[0], flow.family.version, flow.listen)]
        specs[flow.source].append(spec)
    running.senders.update(on_each(specs, lambda a: start_remote(a, lease, flows=specs[a])))


def _listening(agent: Agent, listeners: Sequence[Listener], lease: float) -> Remote:
    wanted = [{"version": version, "port": port} for _, version, port in listeners]
    return start_remote(agent, lease, receivers=wanted)


def _wire(ident: str, flow: Flow) -> Json:
    """Arguments of a flow for ``helpers.agents.remote.stream_kinds``."""
    name, record = flow.question or (None, None)
    return {
        "id": ident,
        "kind": WIRE_KIND.get(flow.kind, flow.kind.value),
        "idle": flow.kind is FlowKind.IDLE,
        "target": str(flow.target),
        "port": flow.port,
        "interval": flow.every,
        "patience": flow.limit,
        "name": name,
        "record": record,
    }


def _report(flow: Flow, clock: Clock, raw: Json, datagrams: Sequence[Json]) -> FlowReport:
    spread = max((told["spread"] for told in datagrams), default=0.0)
    return FlowReport(
        flow=flow,
        began=clock.at(raw["began"]),
        until=clock.at(raw["until"]),
        sent=raw["sent"],
        lost=raw["lost"],
        gaps=tuple(_gap(clock, gap) for gap in raw["gaps"]),
        gap_count=raw["gap_count"],
        outage=raw["outage"],
        stalls=tuple(Stall(clock.at(began), long) for began, _, long in raw["stalls"]),
        resets=tuple(Reset(clock.at(reset["at"]), reset["why"]) for reset in raw["resets"]),
        reset_count=raw["reset_count"],
        slowest=max(raw["slowest"], spread),
        longest_pause=raw["longest_pause"],
        own_errors=raw["own_errors"],
        uncertainty=clock.uncertainty,
        errors=raw["errors"],
        servers=raw["servers"] or _sources(datagrams),
    )


def _gap(clock: Clock, raw: Mapping[str, Any]) -> Gap:
    return Gap(
        began=clock.at(raw["began"]),
        seconds=raw["seconds"],
        lost=raw["lost"],
        at_least=raw["at_least"],
        at_most=raw["at_most"],
        still=raw["open"],
    )


def _sources(datagrams: Sequence[Json]) -> dict[str, int]:
    found: dict[str, int] = {}
    for told in datagrams:
        for source, count in told["sources"].items():
            found[source] = found.get(source, 0) + count
    return found
