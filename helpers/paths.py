"""Paths between agents: which there are in a cluster, and what probes along them see.

A path is named after the nodes at its ends, because that is what an operator can look at. Every
probe of one family goes out in one batch; agents work in parallel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from helpers import gates, probes
from helpers.findings import listed
from helpers.matrix import Cell
from helpers.model import Family, IPAddress, Protocol
from helpers.oneway import OneWay, one_way
from helpers.parallel import on_each
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Blocked, Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

FLOWS: Final = (Protocol.TCP, Protocol.UDP)
EVERY: Final = (Protocol.TCP, Protocol.UDP, Protocol.ICMP)
ONE_WAY: Final = "one-way udp"
DATAGRAMS: Final = 20


@dataclass(frozen=True, slots=True)
class Path:
    """From one agent to another's echo server. ``names`` are the ends as a matrix prints them."""

    source: Agent
    target: Agent
    names: tuple[str, str]
    nodes: gates.NodePair

    @property
    def within_node(self) -> bool:
        return self.nodes[0] == self.nodes[1]

    def cell(self, family: Family, detail: str) -> Cell:
        return Cell(*self.names, family, detail)


# -- which paths there are ------------------------------------------------------------------------


def within_nodes(agents: AgentPool) -> list[Path]:
    """Between the two pods of each node, both ways."""
    paths = []
    for node in agents.pods:
        one, two = agents.pods[node], agents.peers[node]
        names = (f"pod on {node}", f"second pod on {node}")
        paths.append(Path(one, two, names, (node, node)))
        paths.append(Path(two, one, names[::-1], (node, node)))
    return paths


def between_nodes(agents: AgentPool) -> list[Path]:
    """Between pods of every ordered pair of different nodes."""
    return [
        Path(agents.pods[a], agents.pods[b], (f"pod on {a}", f"pod on {b}"), (a, b))
        for a in agents.pods
        for b in agents.pods
        if a != b
    ]


def around_nodes(agents: AgentPool) -> list[Path]:
    """A ring over the nodes: each is once the sender and once the receiver."""
    names = list(agents.pods)
    ring = dict(zip(names, [*names[1:], names[0]], strict=True))
    return [path for path in between_nodes(agents) if ring[path.nodes[0]] == path.nodes[1]]


def from_nodes(agents: AgentPool) -> list[Path]:
    """From every node to a pod on every node, its own included."""
    return [
        Path(agents.nodes[a], agents.pods[b], (f"node {a}", f"pod on {b}"), (a, b))
        for a in agents.nodes
        for b in agents.pods
    ]


def to_nodes(agents: AgentPool) -> list[Path]:
    """From a pod on every node to every node, its own included."""
    return [
        Path(agents.pods[a], agents.nodes[b], (f"pod on {a}", f"node {b}"), (a, b))
        for a in agents.pods
        for b in agents.nodes
    ]


def undisturbed(
    paths: Iterable[Path], cut: Collection[gates.NodePair], family: Family
) -> list[Path]:
    """Paths whose nodes reach each other both ways (gate G2); answers come back, too.

    Raises:
        Blocked: by CFG-009, when no path is left.
    """
    paths = list(paths)
    left = [p for p in paths if p.nodes not in cut and p.nodes[::-1] not in cut]
    if paths and not left:
        raise Blocked("CFG-009", f"no two nodes reach each other over {family}", family)
    return left


# -- what probes see ------------------------------------------------------------------------------


def address(agent: Agent, family: Family) -> IPAddress:
    """An agent's address, of a pod or of a node.

    Raises:
        Blocked: it has none in this family, by the requirement that says so.
    """
    if agent.name.startswith("node agent"):
        found = agent.addresses.of(family)
        if found is None:
            raise Blocked("CFG-005", f"node {agent.node} has no {family} address", family)
        return found
    return gates.pod_address(agent, family)


def probe(path: Path, family: Family, protocol: Protocol, **options: object) -> Probe:
    """A probe along a path, that only the path's own target may answer."""
    to = address(path.target, family)
    if protocol is Protocol.ICMP:
        return Probe(protocol, to, **options)  # type: ignore[arg-type]
    expect = frozenset({path.target.identity})
    return Probe(protocol, to, path.target.port, expect=expect, **options)  # type: ignore[arg-type]


def run(wanted: Sequence[tuple[Path, Probe]]) -> list[Observation]:
    """Run each probe from its path's source; one batch for each agent, results in order."""
    batches: dict[Agent, list[int]] = {}
    for index, (path, _) in enumerate(wanted):
        batches.setdefault(path.source, []).append(index)
    found = probes.run_all(
        {agent: [wanted[i][1] for i in indexes] for agent, indexes in batches.items()}
    )
    seen: dict[int, Observation] = {}
    for agent, indexes in batches.items():
        seen.update(zip(indexes, found[agent], strict=True))
    return [seen[index] for index in range(len(wanted))]


def observe(
    paths: Iterable[Path], family: Family, protocols: Sequence[Protocol]
) -> dict[Cell, Observation]:
    """Probe every path once with every protocol, all at once."""
    wanted = [(path, probe(path, family, protocol)) for path in paths for protocol in protocols]
    cells = [path.cell(family, each.protocol) for path, each in wanted]
    return dict(zip(cells, run(wanted), strict=True))


def observe_one_way(paths: Sequence[Path], family: Family) -> dict[Cell, Observation]:
    """Numbered datagrams along every path; a loss here has a direction, unlike a lost echo."""

    def send(path: Path) -> Observation:
        sent = Probe(Protocol.UDP, address(path.target, family), path.target.port)
        try:
            return as_observation(sent, one_way(path.source, path.target, family, DATAGRAMS))
        except Inconclusive as error:
            return Observation(sent, Outcome.INCONCLUSIVE, error=str(error))

    return {path.cell(family, ONE_WAY): o for path, o in on_each(paths, send).items()}


def as_observation(sent: Probe, flow: OneWay) -> Observation:
    """One-way sightings as an outcome: REACHED when every datagram arrived, once."""
    if not flow.lost and not flow.duplicated:
        return Observation(sent, Outcome.REACHED)
    text = str(flow)
    if flow.duplicated:
        text += f", {len(flow.duplicated)} of them more than once"
    if flow.send_errors:
        text += f"; the sender's kernel said {listed(flow.send_errors)}"
    return Observation(sent, Outcome.TIMEOUT, error=text)


# -- judgements -----------------------------------------------------------------------------------


def source_findings(
    seen: Iterable[tuple[Path, Observation]],
    expected: Mapping[Path, frozenset[IPAddress]],
    fix: str,
) -> list[str]:
    """Where a receiver saw another source address than it should (answered probes only)."""
    found = []
    for path, observation in seen:
        if not observation.reached or observation.peer_seen in expected[path]:
            continue
        found.append(
            f"{observation.probe.protocol} from the {path.names[0]} arrived at the "
            f"{path.names[1]} with source {observation.peer_seen}, expected "
            f"{' or '.join(map(str, sorted(expected[path])))}: {fix}"
        )
    return found


def require_reached(seen: Iterable[tuple[Path, Observation]], by: str) -> None:
    """What was not answered cannot be judged further.

    Raises:
        Blocked: ``by`` the requirement that says that such paths must work.
        Inconclusive: all probes without an answer did not run.
    """
    silent = [(path, o) for path, o in seen if not o.reached]
    if not silent:
        return
    told = listed(f"{p.names[0]} -> {p.names[1]}: {o}" for p, o in silent[:4])
    if all(o.outcome is Outcome.INCONCLUSIVE for _, o in silent):
        raise Inconclusive(told)
    raise Blocked(by, told, silent[0][1].probe.family)
