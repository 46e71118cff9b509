"""A disturbance with flows around it, judged as the suites judge it, with real packets.

The outage is planted in the lab; only the API, which has nothing to tell there, is a stand-in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.flow_model import Flow, FlowKind
from helpers.kube import Kube
from helpers.model import FAMILIES, Family, Verdict
from helpers.resilience import snapshot
from helpers.resilience.study import Study, observe, outcome
from reports.figures import Changes, Timeline
from tests.lab.test_flows import flow, outage
from tests.lab.topology import Lab

KINDS = (FlowKind.UDP, FlowKind.ICMP, FlowKind.TCP)
TOO_LONG = 6.0  # seconds; RES-001 allows 5
SHORT = 0.15  # less than 5 % of the run


class Api:
    """An API server that has no objects."""

    def objects(self, *_: Any, **__: Any) -> list[Any]:
        return []

    calico = objects

    def nodes(self) -> list[Any]:
        return []

    def get(self, *_: Any, **__: Any) -> None:
        return None


KUBE = cast(Kube, Api())


def agents(lab: Lab) -> AgentPool:
    return cast(AgentPool, SimpleNamespace(nodes={"p1": lab.p1, "p2": lab.p2}))


def studied(lab: Lab, act: Callable[[Study], None]) -> Any:
    flows = [flow(lab, kind, family, interval=0.05) for family in FAMILIES for kind in KINDS]
    judged: dict[str, Callable[[Flow], bool]] = {"RES-001": lambda _: True}
    raw = observe("An outage", KUBE, agents(lab), flows, act, judged, after=4.0)
    return json.loads(json.dumps(raw))  # it is kept as JSON between tests


def cut(lab: Lab, family: Family, seconds: float) -> Callable[[Study], None]:
    def act(study: Study) -> None:
        def hold() -> None:
            with outage(lab, family, seconds):
                pass

        study.during("outage", hold)

    return act


@pytest.mark.parametrize("family", FAMILIES)
def test_an_outage_of_one_family_is_a_finding_of_that_family_alone(
    lab: Lab, family: Family, tmp_path: Path
) -> None:
    found = outcome(studied(lab, cut(lab, family, TOO_LONG)), "RES-001")
    with pytest.raises(AssertionError, match=r"a gap of 6\.\d\d s, allowed are 5 s") as raised:
        found.decide(family, Evidence())
    assert "; then happened: " in str(raised.value)
    evidence = Evidence()
    found.decide(family.other, evidence)  # the other one passes
    drawn = _timeline(tmp_path, evidence)
    assert {lane.family for lane in drawn.lanes} == {family.other.value}
    assert all(lane.verdict is Verdict.PASS for lane in drawn.lanes)


def test_an_outage_within_the_limits_is_none(lab: Lab) -> None:
    found = outcome(studied(lab, cut(lab, Family.IPV6, SHORT)), "RES-001")
    for family in FAMILIES:
        found.decide(family, Evidence())


def test_state_of_hosts_is_read_and_does_not_change_by_itself(lab: Lab) -> None:
    before, after = (snapshot.take(KUBE, agents(lab)) for _ in range(2))
    figure = Changes.model_validate(snapshot.figure(before, after, ("a", "b")))
    assert figure.changes == ()
    assert set(before) >= {"p1", "p2"}
    assert "state" not in before["p1"], before["p1"]
    assert any(what.startswith("MTU of ") for what in before["p1"])
    assert any(what.startswith("ipv6 unicast routes of ") for what in before["p1"])
    assert before["p1"]["ipv6 BGP sessions"] == "BIRD does not answer"


def _timeline(folder: Path, evidence: Evidence) -> Timeline:
    """What is kept beside a verdict that passes."""
    (file,) = evidence.write(folder, Verdict.PASS)
    figure = Timeline.model_validate_json(file.read_text())
    assert [window.what for window in figure.windows] == ["outage"]
    assert {limit.longest for limit in figure.limits} == {5.0}
    return figure
