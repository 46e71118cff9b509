"""A plan of probes: which agent sends what, for which cell of a matrix.

Several probes may decide one cell. It is reached when every one of them was: an attempt that
failed is never outvoted by another.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from helpers import probes
from helpers.agents.client import Agent
from helpers.matrix import Cell, Differs, Matrix, decide, explain_matrix
from helpers.model import Family, IPAddress, Protocol
from helpers.probes import PATIENCE, Observation, Outcome, Probe
from helpers.proxy_syncs import look_ended
from helpers.verdicts import Blocked, Inconclusive
from helpers.waiting import NotSettled, eventually

# Seconds that kube-proxy has for a change. Kubernetes' own tests allow 30 (KubeProxyLagTimeout in
# test/e2e/framework/service); two processors that bear a whole suite with four workers took 9.
PROGRAMMED_WITHIN = 20.0
# The same where a node is a guest with a kernel of its own: kube-proxy in ipvs mode starts more
# than a hundred programs for one look at both families (ipset, iptables), and each start takes such
# a kernel 20 to 80 ms instead of one, more on a busy machine.
GUEST_WITHIN = 90.0


@dataclass(frozen=True, slots=True)
class Step:
    """One probe of a plan."""

    agent: Agent
    cell: Cell
    probe: Probe


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: ``Kind("udp 2048 B", Protocol.UDP, 80, size=2048)``; no port for ICMP.

    ``connect_only``: a TCP handshake is the answer, for servers that are not ours.
    """

    detail: str
    protocol: Protocol
    port: int | None
    size: int = 32
    connect_only: bool = False


Answered = tuple[Cell, Observation]
NOT_FOLLOWED = (
    "the kube-proxy on the nodes of these clients does not follow the API: look at its log, and "
    "whether it runs at all"
)


def plan(
    sources: Mapping[str, Agent],
    targets: Mapping[str, IPAddress],
    kinds: Sequence[Kind],
    *,
    attempts: int = 1,
    timeout: float = PATIENCE,
    origin: Mapping[str, IPAddress] | None = None,
    expect: frozenset[str] = frozenset(),
) -> list[Step]:
    """Every source to every target with every kind of request, ``attempts`` times.

    Args:
        sources: label -> agent.
        targets: label -> address.
        origin: label of a source -> address that it sends from; default: the kernel's choice.
        expect: identities of which one must answer; default: anybody.
    """
    return [
        Step(
            agent,
            Cell(source, target, Family.of(address), kind.detail),
            Probe(
                kind.protocol,
                address,
                kind.port,
                size=kind.size,
                timeout=timeout,
                source=(origin or {}).get(source),
                expect=expect,
                connect_only=kind.connect_only,
            ),
        )
        for source, agent in sources.items()
        for target, address in targets.items()
        for kind in kinds
        for _ in range(attempts)
    ]


def carry_out(steps: Sequence[Step]) -> list[Answered]:
    """Run a plan, agents in parallel; observations in the order of the steps."""
    batches: dict[Agent, list[Probe]] = defaultdict(list)
    for step in steps:
        batches[step.agent].append(step.probe)
    found = {agent: iter(seen) for agent, seen in probes.run_all(batches).items()}
    return [(step.cell, next(found[step.agent])) for step in steps]


def folded(answered: Iterable[Answered]) -> Matrix:
    """One outcome for each cell: the first that is not ``reached`` among its attempts."""
    attempts: dict[Cell, list[Observation]] = defaultdict(list)
    for cell, observation in answered:
        attempts[cell].append(observation)
    cells, notes = {}, {}
    for cell, observations in attempts.items():
        # A probe that did not run tells less than one that failed.
        bad = sorted(
            (o for o in observations if not o.reached),
            key=lambda o: o.outcome is Outcome.INCONCLUSIVE,
        )
        cells[cell] = bad[0].outcome if bad else Outcome.REACHED
        if bad:
            share = f"{len(bad)} of {len(observations)} attempts"
            notes[cell] = f"{share}: {bad[0].error}" if len(observations) > 1 else str(bad[0].error)
    return Matrix(cells, notes)


def expected(steps: Iterable[Step], outcome: Outcome = Outcome.REACHED) -> Matrix:
    """What a plan is to find: the same outcome in each of its cells."""
    return Matrix.expecting((step.cell for step in steps), outcome)


def all_reached(matrix: Matrix) -> bool:
    return all(outcome is Outcome.REACHED for outcome in matrix.values())


def none_reached(matrix: Matrix) -> bool:
    """Whether nothing was reached.

    Raises:
        Inconclusive: a probe did not run, so that its silence proves nothing.
    """
    silent = [cell for cell, outcome in matrix.items() if outcome is Outcome.INCONCLUSIVE]
    if silent:
        note = matrix.notes.get(silent[0], "")
        raise Inconclusive(f"{len(silent)} probes did not run, e.g. {silent[0]}: {note}")
    return all(outcome is not Outcome.REACHED for outcome in matrix.values())


def demand_reached(steps: Sequence[Step], hint: str) -> list[Answered]:
    """Carry out a plan; every cell must be reached; see ``demand_outcome``."""
    return demand_outcome(steps, Outcome.REACHED, hint)


def demand_outcome(steps: Sequence[Step], outcome: Outcome, hint: str) -> list[Answered]:
    """Carry out a plan; every cell must have this outcome.

    Args:
        hint: where to look when it has not, for the message.

    Raises:
        AssertionError: a cell has not, with what differs and the hint.
        Inconclusive: all cells that have not are probes that did not run.
    """
    answered = carry_out(steps)
    try:
        decide(folded(answered), expected(steps, outcome))
    except Differs as error:
        raise Differs(f"{error}\n{hint}", error.observed, error.expected) from None
    return answered


def require_reached(answered: Iterable[Answered], by: str) -> None:
    """What was not reached cannot be judged further.

    Raises:
        Blocked: ``by`` the requirement that says that it must be reached.
        Inconclusive: all that was not reached are probes that did not run.
    """
    matrix = folded(answered)
    if all_reached(matrix):
        return
    none_reached(matrix.only(lambda cell: matrix[cell] is not Outcome.REACHED))
    family = next(iter(matrix)).family
    raise Blocked(by, "\n".join(explain_matrix(matrix, Matrix.expecting(matrix))), family)


def follows_within(agents: Iterable[Agent]) -> float:
    """Seconds that kube-proxy has for a change in the cluster of these agents."""
    return GUEST_WITHIN if any(agent.guests for agent in agents) else PROGRAMMED_WITHIN


def programmed(steps: Sequence[Step], what: str, within: float | None = None) -> None:
    """Wait until every cell of a plan is reached: kube-proxy needs a moment for a change.

    Raises:
        AssertionError: they are not in time; with the cells that were not reached last.
    """
    answered_in_time(steps, what, within, every=0.3)


def answered_in_time(
    steps: Sequence[Step], what: str, within: float | None = None, *, every: float = 0.5
) -> None:
    """Wait until every cell of a plan is reached, and kube-proxy has ended what it is at.

    Raises:
        AssertionError: they are not in time; with the cells that were not reached last.
    """
    try:
        eventually(
            lambda: folded(carry_out(steps)),
            all_reached,
            within=within or follows_within(step.agent for step in steps),
            every=every,
            describe=Matrix.summary,
            what=what,
        )
        look_ended({guest for step in steps for guest in step.agent.guests})
    except NotSettled as late:
        if isinstance(late.last, Matrix) and not all_reached(late.last):
            head, *story = str(late).splitlines()
            wanted = expected(steps)
            differing = explain_matrix(late.last, wanted)
            message = "\n".join([head, *differing, NOT_FOLLOWED, *story])
            raise Differs(message, late.last, wanted) from late
        raise


def settle(steps: Sequence[Step], what: str, within: float | None = None) -> None:
    """Like ``programmed``, for a test that compares a whole matrix next and tells more by it."""
    with contextlib.suppress(AssertionError):
        programmed(steps, what, within)


def settle_outcome(steps: Sequence[Step], outcome: Outcome, what: str, *, every: float) -> None:
    """Like ``settle`` for another outcome than reached; ``every`` seconds between two looks."""
    wanted = expected(steps, outcome)
    with contextlib.suppress(AssertionError):
        eventually(
            lambda: folded(carry_out(steps)),
            lambda seen: seen == wanted,
            within=follows_within(step.agent for step in steps),
            every=every,
            describe=Matrix.summary,
            what=what,
        )
