"""Truth tables of policy: who may reach whom, compared as one matrix.

A table is judged in three steps. Without the policy every one of its probes must be answered (the
positive control, moments before). With the policy the table must be seen as it should be: that is
how it is known that the policy took effect, no time is waited for. Then it must stay so.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

from helpers.matrix import Cell, Matrix, decide, explain_matrix
from helpers.model import Protocol
from helpers.plan import Step, all_reached, carry_out, folded
from helpers.probes import Outcome
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, consistently, eventually

OPEN_WITHIN: Final = 15.0  # seconds for the control: an earlier table's policy may have to go first
ENFORCED_WITHIN: Final = 20.0  # seconds; Felix needs one, seven where a suite keeps it waiting
# The same where a node is a guest with a kernel of its own: Felix starts iptables-restore and ipset
# for each change, and each start takes such a kernel 20 to 80 ms instead of one. It was seen to
# need 9.6 s while four workers used such a cluster.
GUEST_WITHIN: Final = 25.0
HELD_FOR: Final = 1.5  # seconds
ANSWER: Final = 3.0  # seconds that an allowed probe may take
SOURCE_PORTS: Final = range(20_000, 30_000)  # of UDP: nobody listens there, no NodePort is there
SILENCE: Final = 1.0  # seconds without an answer that count as denied; the control is as patient

_flows = itertools.count(secrets.randbelow(len(SOURCE_PORTS)))

HINT: Final = (
    "what was open and must be closed: look for policies of a lower order that allow it "
    "(`kubectl get globalnetworkpolicies.crd.projectcalico.org`), and whether Felix programs this "
    "family (FELIX_IPV6SUPPORT, chains cali-* of ip6tables); what was closed and must be open: "
    "compare the labels of the pods with the policy's selectors"
)


@dataclass(frozen=True, slots=True)
class Truth:
    """A table: how to look at it, and what must be seen while the policy is in force.

    Attributes:
        look: one look at all cells. REACHED means open, TIMEOUT denied.
        guests: a node of the cluster is slow to program a policy, or to forget one.
    """

    look: Callable[[], Matrix]
    expected: Matrix
    guests: bool = False

    def __or__(self, other: Truth) -> Truth:
        """Both tables as one."""
        return Truth(
            lambda: self.look() | other.look(),
            self.expected | other.expected,
            self.guests or other.guests,
        )

    @property
    def denied(self) -> list[Cell]:
        return [cell for cell, outcome in self.expected.items() if outcome is not Outcome.REACHED]

    def told(self, seen: Matrix) -> str:
        """One line for the change log of a wait."""
        if seen == self.expected:
            return f"{len(seen) - len(self.denied)} open and {len(self.denied)} denied, as it says"
        return "; ".join(explain_matrix(seen, self.expected)[:2])


def table(steps: Iterable[Step], allowed: Callable[[Cell], bool]) -> Truth:
    """A table of probes: ``allowed`` says which cells the policy leaves open.

    Raises:
        ValueError: there are no steps: such a table would be equal to having tested nothing.
    """
    patient = [
        replace(step, probe=replace(step.probe, timeout=ANSWER if allowed(step.cell) else SILENCE))
        for step in steps
    ]
    expected = Matrix(
        {step.cell: Outcome.REACHED if allowed(step.cell) else Outcome.TIMEOUT for step in patient}
    )
    if not expected:
        raise ValueError("a table without cells proves nothing")
    return Truth(
        lambda: folded(carry_out([_new_flow(step) for step in patient])),
        expected,
        any(step.agent.guests for step in patient),
    )


def _new_flow(step: Step) -> Step:
    """The step as a flow that was not open before the policy.

    Conntrack remembers datagrams for minutes, and what it knows passes: the kernel's choice of a
    source port may be one that the control used.
    """
    if step.probe.protocol is not Protocol.UDP:
        return step
    port = SOURCE_PORTS[next(_flows) % len(SOURCE_PORTS)]
    return replace(step, probe=replace(step.probe, source_port=port))


def demand_enforced(
    truth: Truth, enforced: AbstractContextManager[None], what: str, hint: str = HINT
) -> None:
    """Judge a table.

    Args:
        enforced: applies the policy, and takes it back at the end.
        what: the policy in words.

    Raises:
        Inconclusive: a probe that must be denied was not answered without the policy, or did not
            run: its silence proves nothing.
        AssertionError: with the policy in force another table was seen.
    """
    require_open(truth)
    with enforced:
        settled(truth, what, hint)
        held(truth, what, hint)


def require_open(truth: Truth) -> None:
    """The control: every probe of the table is answered while nothing forbids it.

    Raises:
        Inconclusive: one is not.
    """
    try:
        eventually(
            truth.look,
            all_reached,
            within=GUEST_WITHIN if truth.guests else OPEN_WITHIN,
            every=0.3,
            describe=Matrix.summary,
            what="control: every probe is answered without the policy",
        )
    except NotSettled as late:
        raise Inconclusive(f"control failed, without the policy: {_unanswered(late)}") from late


def settled(truth: Truth, what: str, hint: str = HINT) -> None:
    """Wait until the table is seen.

    Raises:
        AssertionError: it is not in time, with the cells that differ.
        Inconclusive: all that differ are probes that did not run.
    """
    try:
        eventually(
            truth.look,
            lambda seen: seen == truth.expected,
            within=GUEST_WITHIN if truth.guests else ENFORCED_WITHIN,
            every=0.2,
            describe=truth.told,
            what=f"{what}: in force",
        )
    except NotSettled as late:
        _fail(truth, late, hint)


def held(truth: Truth, what: str, hint: str = HINT) -> None:
    """Demand that the table stays.

    Raises:
        AssertionError: it did not, with the cells that differ.
        Inconclusive: all that differ are probes that did not run.
    """
    try:
        seen = consistently(
            lambda: _steady(truth),
            lambda seen: seen == truth.expected,
            during=HELD_FOR,
            every=0.2,
            describe=truth.told,
            what=f"{what}: stays in force",
        )
    except NotSettled as changed:
        _fail(truth, changed, hint)
    else:
        decide(seen, truth.expected)  # what the report draws


def _steady(truth: Truth) -> Matrix:
    """One look, or a second one when nothing but answers of what is open was missing.

    A datagram is sent once, and a busy node loses one in some thousand: that says nothing about
    policy. What is denied is judged in both looks.
    """
    seen = truth.look()
    differing = [cell for cell, outcome in seen.items() if outcome is not truth.expected[cell]]
    lost = all(
        truth.expected[cell] is Outcome.REACHED and seen[cell] is Outcome.TIMEOUT
        for cell in differing
    )
    return truth.look() if differing and lost else seen


def _fail(truth: Truth, late: NotSettled, hint: str) -> None:
    if not isinstance(late.last, Matrix) or late.last == truth.expected:
        raise AssertionError(f"{late}\n{hint}") from late  # it came, but too late
    try:
        decide(late.last, truth.expected)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{hint}\n{late}") from late


def _unanswered(late: NotSettled) -> str:
    if not isinstance(late.last, Matrix):
        return str(late)
    return "\n".join([*explain_matrix(late.last, Matrix.expecting(late.last)), str(late)])
