"""Truth tables: what passes, what fails with which words, and when silence proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.matrix import Cell, Matrix
from helpers.model import Family, Protocol
from helpers.plan import Answered, Step
from helpers.policy import table as policy_table
from helpers.policy.table import ANSWER, SILENCE, Truth, demand_enforced, table
from helpers.probes import Outcome, Probe
from helpers.verdicts import Inconclusive

FRIEND = Cell("friend", "pod", Family.IPV6, "tcp")
STRANGER = Cell("stranger", "pod", Family.IPV6, "tcp")
OPEN, DENIED = Outcome.REACHED, Outcome.TIMEOUT
EXPECTED = Matrix({FRIEND: OPEN, STRANGER: DENIED})
ALL_OPEN = Matrix.expecting([FRIEND, STRANGER])


class Network:
    """Answers as a policy makes them: ``without`` it, and ``within`` it look after look."""

    def __init__(self, *within: Matrix, without: Matrix = ALL_OPEN) -> None:
        self.within, self.without = list(within), without
        self.inside = False

    def look(self) -> Matrix:
        if not self.inside:
            return self.without
        return self.within.pop(0) if len(self.within) > 1 else self.within[0]

    @contextmanager
    def enforced(self) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[[Network], None]:
    for name in ("OPEN_WITHIN", "ENFORCED_WITHIN", "HELD_FOR"):
        monkeypatch.setattr(policy_table, name, 0.3)
    return lambda network: demand_enforced(
        Truth(network.look, EXPECTED), network.enforced(), "a policy", "look there"
    )


def test_a_table_that_comes_and_stays_passes(judge: Callable[[Network], None]) -> None:
    network = Network(ALL_OPEN, EXPECTED)
    judge(network)
    assert not network.inside


def test_a_policy_that_never_takes_effect_fails_with_the_cells(
    judge: Callable[[Network], None],
) -> None:
    with pytest.raises(AssertionError, match=r"stranger -> pod: reached, expected timeout") as told:
        judge(Network(ALL_OPEN))
    assert "look there" in str(told.value)


def test_what_is_allowed_must_be_open(judge: Callable[[Network], None]) -> None:
    closed = Matrix({FRIEND: DENIED, STRANGER: DENIED})
    with pytest.raises(AssertionError, match=r"friend -> pod: timeout, expected reached"):
        judge(Network(closed))


def test_a_table_that_does_not_stay_fails(judge: Callable[[Network], None]) -> None:
    with pytest.raises(AssertionError, match=r"stays in force: held for"):
        judge(Network(EXPECTED, EXPECTED, ALL_OPEN))


def test_one_lost_answer_of_what_is_open_is_asked_for_again(
    judge: Callable[[Network], None],
) -> None:
    lost = Matrix({FRIEND: DENIED, STRANGER: DENIED})
    judge(Network(EXPECTED, lost, EXPECTED))
    with pytest.raises(AssertionError, match=r"friend -> pod: timeout, expected reached"):
        judge(Network(EXPECTED, lost, lost))
    with pytest.raises(AssertionError, match=r"stranger -> pod: reached, expected timeout"):
        judge(Network(EXPECTED, lost, ALL_OPEN))
    crossed = Matrix({FRIEND: DENIED, STRANGER: OPEN})
    with pytest.raises(AssertionError, match=r"stays in force"):
        judge(Network(EXPECTED, crossed, EXPECTED))


def test_without_the_control_silence_proves_nothing(judge: Callable[[Network], None]) -> None:
    with pytest.raises(Inconclusive, match=r"control failed.*\n.*\n?.*stranger -> pod"):
        judge(Network(EXPECTED, without=EXPECTED))


def test_probes_that_do_not_run_are_no_silence(judge: Callable[[Network], None]) -> None:
    lost = Matrix({FRIEND: OPEN, STRANGER: Outcome.INCONCLUSIVE})
    with pytest.raises(Inconclusive):
        judge(Network(lost))


def test_a_refused_probe_is_not_a_denied_one(judge: Callable[[Network], None]) -> None:
    refused = Matrix({FRIEND: OPEN, STRANGER: Outcome.REFUSED})
    with pytest.raises(AssertionError, match="refused, expected timeout"):
        judge(Network(refused))


def test_patience_follows_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    agent: Any = SimpleNamespace(guests=False)
    probe = Probe(Protocol.TCP, ip_address("fd00::1"), 80)
    made: dict[Cell, float] = {}

    def carry_out(steps: list[Step]) -> list[Answered]:
        made.update({step.cell: step.probe.timeout for step in steps})
        return []

    truth = table([Step(agent, c, probe) for c in (FRIEND, STRANGER)], lambda c: c is FRIEND)
    assert truth.expected == EXPECTED
    monkeypatch.setattr(policy_table, "carry_out", carry_out)
    truth.look()
    assert made == {FRIEND: ANSWER, STRANGER: SILENCE}


def test_no_table_without_cells() -> None:
    with pytest.raises(ValueError, match="proves nothing"):
        table([], lambda _: True)


def test_tables_join() -> None:
    one = Truth(lambda: Matrix({FRIEND: OPEN}), Matrix({FRIEND: OPEN}))
    two = Truth(lambda: Matrix({STRANGER: DENIED}), Matrix({STRANGER: DENIED}))
    both = one | two
    assert both.look() == both.expected == EXPECTED
    assert both.told(both.look()) == "1 open and 1 denied, as it says"
    assert not both.guests


def test_a_policy_has_more_time_where_a_node_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_table, "ENFORCED_WITHIN", 0.0)
    network = Network(ALL_OPEN, ALL_OPEN, EXPECTED)
    slow = Truth(network.look, EXPECTED, guests=True)
    with network.enforced():
        policy_table.settled(slow | Truth(lambda: Matrix({}), Matrix({})), "a policy")


def test_each_look_is_new_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What conntrack knows from the control passes whatever the policy says."""
    agent: Any = SimpleNamespace(guests=False)
    ports: list[int | None] = []

    def carry_out(steps: list[Step]) -> list[Answered]:
        ports.extend(step.probe.source_port for step in steps)
        return []

    monkeypatch.setattr(policy_table, "carry_out", carry_out)
    kinds = [
        Probe(Protocol.UDP, ip_address("fd00::1"), 80),
        Probe(Protocol.ICMP, ip_address("::1")),
    ]
    truth = table([Step(agent, FRIEND, probe) for probe in kinds], lambda _: True)
    for _ in range(3):
        truth.look()
    assert ports[1::2] == [None] * 3  # an echo request has no port
    assert len(set(ports[::2])) == 3
