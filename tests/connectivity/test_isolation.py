"""CONN-014: link-local addresses of other pods must stay silent, and the silence must be proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import Any

import pytest

from helpers import isolation, probes
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled

GATEWAY = IPv6Address("fe80::ecee:eeff:feee:eeee")
OTHER = IPv6Address("fe80::2")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Answers of link-local addresses: ``network({address: outcome})``."""
    monkeypatch.setattr(isolation, "SILENT_FOR", 0.2)

    def define(outcomes: Mapping[IPv6Address, Outcome]) -> None:
        def run_all(batches: Mapping[Any, list[Probe]]) -> dict[Any, list[Observation]]:
            def answer(probe: Probe) -> Observation:
                assert str(probe.target).endswith("%eth0")  # a link-local needs its link
                return Observation(probe, outcomes[IPv6Address(str(probe.target).split("%")[0])])

            return {agent: [answer(p) for p in batch] for agent, batch in batches.items()}

        monkeypatch.setattr(probes, "run_all", run_all)

    return define


def pods() -> list[isolation.Isolation]:
    agent: Any = "agent"
    return [isolation.Isolation("pod on worker", agent, GATEWAY, {"pod on worker2": [OTHER]})]


@pytest.mark.parametrize("silence", [Outcome.TIMEOUT, Outcome.UNREACHABLE])
def test_silence_after_an_answering_gateway_passes(
    network: Callable[..., None], silence: Outcome
) -> None:
    network({GATEWAY: Outcome.REACHED, OTHER: silence})

    isolation.demand(pods())


def test_an_answer_of_another_pod_is_found(network: Callable[..., None]) -> None:
    network({GATEWAY: Outcome.REACHED, OTHER: Outcome.REACHED})

    with pytest.raises(NotSettled, match=r"answers from fe80::2%eth0: the node bridges"):
        isolation.demand(pods())


def test_silence_proves_nothing_when_the_gateway_is_silent_too(
    network: Callable[..., None],
) -> None:
    network({GATEWAY: Outcome.TIMEOUT, OTHER: Outcome.TIMEOUT})

    with pytest.raises(Inconclusive, match="the gateway does not answer"):
        isolation.demand(pods())


def test_a_probe_that_did_not_run_is_not_silence(network: Callable[..., None]) -> None:
    network({GATEWAY: Outcome.REACHED, OTHER: Outcome.INCONCLUSIVE})

    with pytest.raises(Inconclusive):
        isolation.demand(pods())
