"""Agents that lie or are late: what they say never becomes a verdict about the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from helpers.agents.client import Agent
from helpers.agents.transport import ProcessTransport
from helpers.matrix import Cell, Matrix, decide
from helpers.model import Family, Protocol
from helpers.oneway import OneWay, one_way
from helpers.probes import Outcome, Probe, dns, run
from helpers.verdicts import Inconclusive
from helpers.waiting import Deadline
from tests.agents.conftest import LOCAL_RUN, LOOPBACK

Answer = dict[str, Any]
Forge = Callable[[list[Answer]], Sequence[Answer]]


class Forger:
    """A real agent whose answers to one operation are changed on their way."""

    def __init__(self, op: str, forge: Forge) -> None:
        self._inner = ProcessTransport(LOCAL_RUN)
        self._op, self._forge = op, forge
        self._held: list[Answer] | None = None
        self._ready: list[bytes] = []

    def send_line(self, line: bytes) -> None:
        self._held = [] if json.loads(line)["op"] == self._op else None
        self._inner.send_line(line)

    def receive_line(self, deadline: Deadline) -> bytes:
        while self._held is not None and not self._ready:
            answer = json.loads(self._inner.receive_line(deadline))
            if "done" not in answer:
                self._held.append(answer)
                continue
            told = list(self._forge(self._held))
            for index, each in enumerate(told):  # it lies, and keeps the protocol
                each["i"] = index
            answer["done"] = len(told)
            self._ready = [json.dumps(each).encode() for each in (*told, answer)]
            self._held = None
        return self._ready.pop(0) if self._ready else self._inner.receive_line(deadline)

    def ended(self) -> bool:
        return self._inner.ended()

    def close(self) -> None:
        self._inner.close()

    @property
    def stderr(self) -> str:
        return self._inner.stderr


def flow(forge: Forge, count: int = 200) -> OneWay:
    """One-way datagrams from an honest agent to one whose report is changed."""
    sender = Agent("sender", lambda: ProcessTransport(LOCAL_RUN), addresses=LOOPBACK)
    receiver = Agent("liar", lambda: Forger("udp_collect", forge), addresses=LOOPBACK)
    try:
        return one_way(sender, receiver, Family.IPV6, count, interval=0)
    finally:
        sender.close()
        receiver.close()


def honest(answers: list[Answer]) -> list[Answer]:
    return answers


def one_percent_dropped(answers: list[Answer]) -> list[Answer]:
    return [each for n, each in enumerate(answers) if n % 100 != 50]


def last_ones_dropped(answers: list[Answer]) -> list[Answer]:
    return [*answers[:-3], answers[-1]]


def wrong_nonce(answers: list[Answer]) -> list[Answer]:
    answers[3]["result"]["nonce"] = "somebody-elses"
    return answers


def never_sent(answers: list[Answer]) -> list[Answer]:
    answers[3]["result"]["sequence"] = 4711
    return answers


def without_account(answers: list[Answer]) -> list[Answer]:
    return answers[:-1]


def buffer_full(answers: list[Answer]) -> list[Answer]:
    answers[-1]["result"]["dropped"] = 2
    return answers


def test_an_honest_report_is_believed() -> None:
    seen = flow(honest)
    assert seen.lost == seen.duplicated == ()


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (one_percent_dropped, "200 datagrams arrived, 198 of them are in its report"),
        (last_ones_dropped, "200 datagrams arrived, 198 of them are in its report"),
        (wrong_nonce, "datagrams of somebody else"),
        (never_sent, "never sent: 4711"),
        (without_account, "no account"),
        (buffer_full, "threw 2 datagrams away"),
    ],
)
def test_a_report_with_holes_is_no_loss_of_the_network(forge: Forge, said: str) -> None:
    with pytest.raises(Inconclusive, match=said):
        flow(forge)


def test_a_loss_of_the_network_is_still_a_loss() -> None:
    """The account of an honest receiver is of what arrived, so real losses stay losses."""

    def nothing_of_the_first(answers: list[Answer]) -> list[Answer]:
        *sightings, account = answers
        kept = [each for each in sightings if each["result"]["sequence"] != 0]
        for arrival, each in enumerate(kept, 1):
            each["result"]["arrival"] = arrival
        account["result"]["arrived"] = len(kept)
        return [*kept, account]

    assert flow(nothing_of_the_first).lost == (0,)


@pytest.mark.parametrize(
    "lie",
    [
        {"outcome": "teleported"},
        {"outcome": "reached", "peer": "not-an-address"},
        {},
        {"outcome": "reached", "ms": "soon"},
    ],
)
def test_an_answer_that_makes_no_sense_is_inconclusive(lie: Answer) -> None:
    def forge(answers: list[Answer]) -> list[Answer]:
        answers[0]["result"] = lie
        return answers

    agent = Agent("liar", lambda: Forger("probe", forge), addresses=LOOPBACK)
    seen = run(agent, [Probe(Protocol.TCP, ip_address("::1"), 9, timeout=1.0)] * 2)
    agent.close()
    assert [o.outcome for o in seen] == [Outcome.INCONCLUSIVE, Outcome.REFUSED]
    assert "makes no sense" in str(seen[0].error)
    cells = [Cell("a", "b", Family.IPV6, str(n)) for n in (0, 1)]
    observed = Matrix.observed(zip(cells, seen, strict=True))
    with pytest.raises(Inconclusive):
        decide(observed, Matrix({cells[0]: Outcome.REACHED, cells[1]: Outcome.REFUSED}))


def test_a_question_that_was_not_answered_is_inconclusive() -> None:
    agent = Agent("liar", lambda: Forger("dns", lambda answers: answers[:1]), addresses=LOOPBACK)
    told = dns(agent, ["a.example.", "b.example."], "AAAA", ip_address("::1"), port=9, timeout=0.2)
    agent.close()
    assert told[1].outcome is Outcome.INCONCLUSIVE
    assert "not asked in time" in str(told[1].error)
