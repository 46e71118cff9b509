"""Probes: one attempt to send something from an agent to a target, and what came of it.

Outcomes say what was observed, never what it means. A probe that could not run is
``INCONCLUSIVE``: it is never taken for a blocked path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Final

from helpers.agents.client import Agent
from helpers.model import Family, IPAddress, Protocol
from helpers.verdicts import Inconclusive

PARALLEL: Final = 256  # flows in flight of one agent
# Seconds that an answer may take. What is late has still arrived: busy nodes were seen to need 2 s.
PATIENCE: Final = 4.0


class Outcome(StrEnum):
    """What a probe saw."""

    REACHED = "reached"
    REFUSED = "refused"  # a reset or an ICMP port unreachable came back
    UNREACHABLE = "unreachable"  # no route, or an ICMP error other than that
    TIMEOUT = "timeout"  # nothing came back
    WRONG_PEER = "wrong_peer"  # somebody else answered, or not with what was sent
    INCONCLUSIVE = "inconclusive"  # the probe itself did not run


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt. ``size`` is payload bytes; ``port`` is None for ICMP.

    Attributes:
        expect: identities (``Agent.identity``) of which one must answer; empty: any echo server.
        connect_only: TCP handshake without a request, for servers that are not ours.
        hop_limit: TTL or hop limit to send with; None: the host's default.
    """

    protocol: Protocol
    target: IPAddress
    port: int | None = None
    size: int = 32
    timeout: float = PATIENCE
    source_port: int | None = None
    source: IPAddress | None = None
    expect: frozenset[str] = frozenset()
    connect_only: bool = False
    dont_fragment: bool = False
    hop_limit: int | None = None

    def __post_init__(self) -> None:
        if (self.port is None) != (self.protocol is Protocol.ICMP):
            raise ValueError(f"{self.protocol} probe: a port belongs to TCP, UDP and SCTP only")

    @property
    def family(self) -> Family:
        return Family.of(self.target)

    @property
    def label(self) -> str:
        """``tcp [fd00::1]:80`` for messages."""
        host = f"[{self.target}]" if self.target.version == 6 else str(self.target)
        return f"{self.protocol} {host}" + (f":{self.port}" if self.port is not None else "")

    def wire(self) -> dict[str, Any]:
        """Arguments of the agent's ``probe`` operation."""
        return {
            "protocol": self.protocol.value,
            "target": str(self.target),
            "port": self.port,
            "size": self.size,
            "timeout": self.timeout,
            "source_port": self.source_port,
            "source": str(self.source) if self.source else None,
            "connect_only": self.connect_only,
            "dont_fragment": self.dont_fragment,
            "hops": self.hop_limit,
        }


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a probe.

    Attributes:
        peer_seen: source address that the server saw (TCP, UDP).
        peer_port_seen: source port that the server saw.
        server: identity of the server that answered.
        server_node: node of the server that answered.
        milliseconds: from the beginning to the outcome.
        error: what the kernel or the agent said, None when reached.
        hops: TTL or hop limit of the answer (ICMP).
    """

    probe: Probe
    outcome: Outcome
    peer_seen: IPAddress | None = None
    peer_port_seen: int | None = None
    server: str | None = None
    server_node: str | None = None
    milliseconds: float = 0.0
    error: str | None = None
    hops: int | None = None

    @property
    def reached(self) -> bool:
        return self.outcome is Outcome.REACHED

    def __str__(self) -> str:
        detail = f" ({self.error})" if self.error else ""
        return f"{self.probe.label}: {self.outcome}{detail}"


def run(
    agent: Agent,
    probes: Iterable[Probe],
    deadline: float | None = None,
    *,
    parallel: int = PARALLEL,
) -> list[Observation]:
    """Run probes as one batch, all at once (``parallel`` in flight); observations in their order.

    A lost agent makes its probes INCONCLUSIVE; nothing is raised and nothing is sent twice.

    Args:
        deadline: seconds for the whole batch; default: enough for every probe to time out.
    """
    batch = list(probes)
    if not batch:
        return []
    if deadline is None:
        rounds = math.ceil(len(batch) / parallel)
        deadline = rounds * max(p.timeout for p in batch) + 5.0
    wire = [probe.wire() for probe in batch]
    try:
        results = agent.call_indexed("probe", deadline, probes=wire, parallel=parallel)
    except Inconclusive as error:
        return [Observation(probe, Outcome.INCONCLUSIVE, error=str(error)) for probe in batch]
    late = {"outcome": "inconclusive", "error": f"not done within {deadline:g} s"}
    return [_observation(probe, results.get(i, late)) for i, probe in enumerate(batch)]


def run_all(
    batches: Mapping[Agent, Sequence[Probe]], deadline: float | None = None
) -> dict[Agent, list[Observation]]:
    """Run a batch on each agent, agents in parallel."""
    if not batches:
        return {}
    with ThreadPoolExecutor(len(batches), thread_name_prefix="probes") as pool:
        futures = {
            agent: pool.submit(run, agent, probes, deadline) for agent, probes in batches.items()
        }
        return {agent: future.result() for agent, future in futures.items()}


def _observation(probe: Probe, result: Mapping[str, Any]) -> Observation:
    """What an agent says of a probe; what makes no sense says nothing of the network."""
    try:
        return _read(probe, result)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        said = f"the agent's answer makes no sense ({error!r}): {str(result)[:120]}"
        return Observation(probe, Outcome.INCONCLUSIVE, error=said)


def _read(probe: Probe, result: Mapping[str, Any]) -> Observation:
    outcome, error = Outcome(result["outcome"]), result.get("error")
    server = result.get("server")
    if outcome is Outcome.REACHED and probe.expect and server not in probe.expect:
        outcome = Outcome.WRONG_PEER
        error = f"answered by {server}, expected {', '.join(sorted(probe.expect))}"
    peer = result.get("peer")
    return Observation(
        probe=probe,
        outcome=outcome,
        peer_seen=ip_address(peer) if peer else None,
        peer_port_seen=result.get("peer_port"),
        server=server,
        server_node=result.get("node"),
        milliseconds=float(result.get("ms", 0.0)),
        error=error,
        hops=result.get("hops"),
    )


# -- DNS ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """Answer to one DNS question.

    ``outcome`` tells whether the server answered at all; then ``rcode`` is e.g. ``NOERROR`` or
    ``NXDOMAIN``. ``addresses`` holds A and AAAA values, ``values`` those of any other type.
    """

    name: str
    record: str
    outcome: Outcome
    rcode: str | None
    addresses: tuple[IPAddress, ...] = ()
    values: tuple[str, ...] = ()
    milliseconds: float = 0.0
    error: str | None = None


def dns(
    agent: Agent,
    names: Iterable[str],
    record: str,
    server: IPAddress,
    transport: Protocol = Protocol.UDP,
    *,
    port: int = 53,
    timeout: float = 3.0,
) -> list[DnsAnswer]:
    """Ask one server for one record type of some names, in parallel, each question once.

    Args:
        record: A, AAAA, PTR, SRV, CNAME, NS, SOA or TXT.
        server: decides the family that the question travels over.
    """
    asked = list(names)
    query = {"record": record, "server": str(server), "port": port, "timeout": timeout}
    queries = [{**query, "name": name, "transport": transport.value} for name in asked]
    try:
        results = agent.call_indexed(
            "dns", timeout * math.ceil(len(asked) / 32) + 5, queries=queries
        )
    except Inconclusive as lost:
        gone = {"outcome": "inconclusive", "rcode": None, "error": str(lost)}
        results = dict.fromkeys(range(len(asked)), gone)
    late = {"outcome": "inconclusive", "rcode": None, "error": "not asked in time"}
    answers = []
    for index, name in enumerate(asked):
        result = results.get(index, late)
        values = tuple(result.get("values", ()))
        is_address = record.upper() in ("A", "AAAA")
        answers.append(
            DnsAnswer(
                name=name,
                record=record,
                outcome=Outcome(result["outcome"]),
                rcode=result["rcode"],
                addresses=tuple(map(ip_address, values)) if is_address else (),
                values=values,
                milliseconds=float(result.get("ms", 0.0)),
                error=result.get("error"),
            )
        )
    return answers


# -- bulk -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transfer:
    """Outcome of one bulk transfer; REACHED means that both ends have the same SHA-256."""

    outcome: Outcome
    moved: int
    seconds: float = 0.0
    peer_seen: IPAddress | None = None
    server: str | None = None
    error: str | None = None


def tcp_bulk(
    agent: Agent,
    target: IPAddress,
    port: int,
    size: int,
    *,
    down: bool = False,
    timeout: float = 30.0,
) -> Transfer:
    """Move ``size`` bytes to an echo server (``down``: from it) and compare digests.

    ``timeout`` bounds the whole transfer and each stall in it.
    """
    transfer = {"target": str(target), "port": port, "bytes": size, "timeout": timeout}
    transfer["mode"] = "source" if down else "sink"
    try:
        result = agent.call_one("tcp_bulk", timeout, transfers=[transfer])
    except Inconclusive as error:
        return Transfer(Outcome.INCONCLUSIVE, 0, error=str(error))
    peer = result.get("peer")
    return Transfer(
        outcome=Outcome(result["outcome"]),
        moved=result["bytes"],
        seconds=float(result.get("seconds", 0.0)),
        peer_seen=ip_address(peer) if peer else None,
        server=result.get("server"),
        error=result.get("error"),
    )
