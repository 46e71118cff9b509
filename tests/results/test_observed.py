"""What a failed test observed travels as data beside its reason."""

from __future__ import annotations

import pytest

from helpers.findings import Found, demand_none
from helpers.matrix import Cell, Differs, Matrix, decide
from helpers.model import Family
from helpers.observed import observed
from helpers.probes import Outcome
from helpers.verdicts import Blocked, Inconclusive
from helpers.waiting import NotSettled
from tests.results.conftest import Project

A, B = (Cell(*pair, Family.IPV6, "udp") for pair in (("a", "b"), ("b", "a")))


def test_all_findings_although_the_message_folds_them() -> None:
    lines = [f"pod {n} is wrong" for n in range(40)]
    with pytest.raises(Found, match="40 findings") as caught:
        demand_none(lines)
    assert observed(caught.value) == {"findings": lines}
    assert "pod 39" not in str(caught.value)


def test_all_cells_good_ones_too() -> None:
    seen = Matrix({A: Outcome.TIMEOUT, B: Outcome.REACHED}, {A: "5 of 20"})
    with pytest.raises(Differs) as caught:
        decide(seen, Matrix.expecting([A, B]))
    (bad, good) = observed(caught.value)["cells"]
    assert (bad["source"], bad["observed"], bad["expected"]) == ("a", "timeout", "reached")
    assert bad["note"] == "5 of 20"
    assert good["observed"] == good["expected"] == "reached"


def test_what_blocks_and_what_a_wait_saw_last() -> None:
    assert observed(Blocked("CFG-009", "no way")) == {"blockedBy": "CFG-009"}
    late = NotSettled("late", what="x", timeline=(), late_by=None, last=["a route is missing"])
    assert observed(late) == {"findings": ["a route is missing"]}
    late = NotSettled("late", what="x", timeline=(), late_by=None, last=object())
    assert observed(late) == {}
    assert observed(Inconclusive("lost")) == observed(None) == {}


def test_in_results_json(project: Project) -> None:
    project.suite(
        "from helpers.findings import demand_none\n"
        "def test_svc_002_x():\n    demand_none(['one', 'two'])\n"
        "def test_svc_007_x(family):\n    raise Blocked('CFG-009', 'no way', family)\n"
    )
    run = project.run()
    assert run.entry("SVC-002", "pair")["findings"] == ["one", "two"]
    assert run.entry("SVC-007", "ipv6")["blockedBy"] == "CFG-009"
