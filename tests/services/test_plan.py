"""Plans of probes and how their attempts become outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest

from helpers import probes
from helpers.matrix import Cell
from helpers.model import Family, Protocol
from helpers.plan import Kind, carry_out, expected, folded, none_reached, plan, require_reached
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Blocked, Inconclusive

CELL = Cell("pod", "clusterIP", Family.IPV6, "udp")
PROBE = Probe(Protocol.UDP, ip_address("fd00::1"), 80)


@dataclass(frozen=True)
class FakeAgent:
    name: str


def seen(*outcomes: Outcome) -> list[tuple[Cell, Observation]]:
    return [
        (CELL, Observation(PROBE, o, error=None if o is Outcome.REACHED else f"error {o}"))
        for o in outcomes
    ]


def test_one_lost_attempt_is_not_outvoted() -> None:
    matrix = folded(seen(*[Outcome.REACHED] * 5, Outcome.TIMEOUT))
    assert matrix[CELL] is Outcome.TIMEOUT
    assert matrix.notes[CELL] == "1 of 6 attempts: error timeout"


def test_a_real_failure_tells_more_than_a_probe_that_did_not_run() -> None:
    matrix = folded(seen(Outcome.INCONCLUSIVE, Outcome.REFUSED))
    assert matrix[CELL] is Outcome.REFUSED


def test_silence_needs_probes_that_ran() -> None:
    assert none_reached(folded(seen(Outcome.TIMEOUT, Outcome.REFUSED)))
    assert not none_reached(folded(seen(Outcome.REACHED)))
    with pytest.raises(Inconclusive):
        none_reached(folded(seen(Outcome.INCONCLUSIVE)))


def test_what_is_not_reached_blocks() -> None:
    require_reached(seen(Outcome.REACHED), by="SVC-007")
    with pytest.raises(Blocked, match="SVC-007"):
        require_reached(seen(Outcome.REACHED, Outcome.TIMEOUT), by="SVC-007")
    with pytest.raises(Inconclusive):
        require_reached(seen(Outcome.INCONCLUSIVE), by="SVC-007")


def test_every_source_target_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    agents: dict[str, Any] = {name: FakeAgent(name) for name in ("one", "two")}
    targets = {"v4": ip_address("10.0.0.1"), "v6": ip_address("fd00::1")}
    kinds = [Kind("tcp", Protocol.TCP, 80), Kind("echo", Protocol.ICMP, None)]
    steps = plan(agents, targets, kinds, attempts=2, origin={"one": ip_address("10.0.0.9")})
    assert len(steps) == 2 * 2 * 2 * 2
    assert len(expected(steps)) == 8
    assert {step.probe.source for step in steps if step.cell.source == "two"} == {None}

    def run_all(batches: Any) -> Any:
        return {
            agent: [Observation(probe, Outcome.REACHED, server=agent.name) for probe in batch]
            for agent, batch in batches.items()
        }

    monkeypatch.setattr(probes, "run_all", run_all)
    answered = carry_out(steps)
    assert [cell for cell, _ in answered] == [step.cell for step in steps]
    assert all(observation.server == cell.source for cell, observation in answered)
