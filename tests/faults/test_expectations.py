"""``suites/faults.yaml`` is read strictly, and agrees with the code and the tests of the suite."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.faults import catalogue  # noqa: F401  # registers every fault
from helpers.faults.expectations import ExpectationError, expectations, load, sample
from helpers.faults.plans import planters, plants
from helpers.model import Level
from helpers.requirements import requirements
from reports.inventory import suite_tests

ROOT = Path(__file__).resolve().parents[2]
ROW: dict[str, Any] = {"id": "F11", "title": "forwarding is off", "must": ["CONN-002 ipv6"]}


def loaded(tmp_path: Path, *rows: dict[str, Any], beside: tuple[str, ...] = ("CFG-009",)) -> Any:
    file = tmp_path / "faults.yaml"
    file.write_text(yaml.safe_dump({"sample": list(beside), "faults": list(rows)}))
    return load(file)[0]


def test_a_row_is_read(tmp_path: Path) -> None:
    row = loaded(tmp_path, ROW | {"may": {"SVC-007": "depends"}, "beside": ["routing"]})["F11"]
    assert row.must == (("CONN-002", "ipv6"),)
    assert row.may == {("SVC-007", "ipv4"): "depends", ("SVC-007", "ipv6"): "depends"}
    assert {"CONN-002", "RTE-001", "RTE-002"} <= row.selection
    assert not {"SVC-007", "CFG-001"} & row.selection


def test_without_family_all_verdicts_are_meant(tmp_path: Path) -> None:
    row = loaded(tmp_path, ROW | {"must": ["CONN-002", "CFG-001"]})["F11"]
    assert row.must == (("CONN-002", "ipv4"), ("CONN-002", "ipv6"), ("CFG-001", "pair"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"must": ["CONN-999 ipv6"]}, "there is no requirement CONN-999"),
        ({"must": ["CFG-013 ipv4"]}, "CFG-013 is decided for ipv6"),
        ({"must": ["CFG-001 ipv6"]}, "CFG-001 is decided for pair"),
        ({"must": []}, "turns something red"),
        ({"may": {"SVC-007": ""}}, "write the reason beside"),
        ({"may": {"CONN-002 ipv6": "x"}}, "either must or may"),
        ({"beside": ["roting"]}, "neither requirements nor groups"),
        ({"needs": ["ipsv"]}, "known features"),
        ({"id": "F111"}, "an id is F11"),
        ({"id": "CFG-099/x"}, "there is no requirement CFG-099"),
        ({"kind": "control"}, "under a control nothing is red"),
        ({"musts": []}, "Extra inputs"),
        ({"recorded": ["t"], "profile": "p"}, "either recorded or planted"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ExpectationError, match=says):
        loaded(tmp_path, ROW | change)


def test_double_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpectationError, match="occurs twice"):
        loaded(tmp_path, ROW, ROW)


def test_unknown_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpectationError, match="there is no requirement"):
        loaded(tmp_path, ROW, beside=("SVC-999",))


def test_every_fault_is_planted_by_a_function() -> None:
    lacking = [
        row.id
        for row in expectations().values()
        if row.kind == "fault" and row.planted and row.profile is None and row.id not in planters()
    ]
    assert not lacking, f"helpers/faults/ plants no {lacking}"


def test_every_function_plants_a_row_of_the_file() -> None:
    unknown = planters().keys() - expectations().keys()
    assert not unknown, f"suites/faults.yaml has no {sorted(unknown)}"


def test_two_functions_for_one_fault_are_refused() -> None:
    with pytest.raises(ValueError, match="planted by two functions"):
        plants("F11")(planters()["F11"])


def test_recorded_proofs_exist() -> None:
    for row in expectations().values():
        for node_id in row.recorded:
            file, _, name = node_id.partition("::")
            tree = ast.parse((ROOT / file).read_text())
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert name in names, f"{row.id}: there is no {node_id}"


def test_every_core_requirement_with_a_test_has_a_fault() -> None:
    written = {test.requirement for test in suite_tests(ROOT)}
    proved = {name for row in expectations().values() for name, _ in row.must}
    lacking = [
        r.id
        for r in requirements().values()
        if r.level is Level.CORE and r.id in written and r.id not in proved
    ]
    assert not lacking, f"no fault of suites/faults.yaml turns {lacking} red"


def test_the_sample_is_of_several_groups() -> None:
    assert len({requirements()[name].group for name in sample()}) >= 4


def test_a_twin_is_the_row_for_ipv4(tmp_path: Path) -> None:
    row = ROW | {"twin": "CONN-002/ipv4", "may": {"EGR-002 ipv6": "IPv6 may go"}, "says": "IPv6"}
    rows = loaded(tmp_path, row)
    assert list(rows) == ["F11", "CONN-002/ipv4"]
    twin = rows["CONN-002/ipv4"]
    assert twin.must == (("CONN-002", "ipv4"),)
    assert twin.may == {("EGR-001", "ipv4"): "IPv4 may go"}
    assert twin.says == "IPv4"
