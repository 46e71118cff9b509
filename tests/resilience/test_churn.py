"""Pods that are made while the cluster is disturbed."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.agents.client import Agent
from helpers.model import FAMILIES, Family
from helpers.probes import Probe
from helpers.resilience import churn

ADDRESSES = {Family.IPV4: ip_address("10.0.0.1"), Family.IPV6: ip_address("fd00::1")}


def test_new_pods_are_asked_over_both_families_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither family has the time that the other one took."""
    asked: list[list[int]] = []

    def run(_: Agent, batch: list[Probe]) -> list[Any]:
        asked.append([probe.target.version for probe in batch])
        return [
            SimpleNamespace(reached=len(asked) > 1 or probe.target.version == 6) for probe in batch
        ]

    monkeypatch.setattr(churn.probes, "run", run)
    pod = SimpleNamespace(
        node="w1",
        label="p",
        address=ADDRESSES.get,
        addresses=SimpleNamespace(require=ADDRESSES.__getitem__),
    )
    agents = SimpleNamespace(peers={"w2": SimpleNamespace(port=8080)})
    made = churn.Churn(cast(Any, None), cast(Any, agents), ["w1"])
    answered = made._answers(cast(Any, pod), within=2.0)
    assert asked == [[4, 6], [4]]
    assert answered.keys() == set(FAMILIES)
    assert None not in answered.values()
