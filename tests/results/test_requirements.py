"""The requirement data is read strictly: a typing mistake must not drop a requirement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.model import Family, Level
from helpers.requirements import RequirementError, load, requirement_of, requirements

ENTRY = {
    "id": "SVC-007",
    "group": "services",
    "title": "answers",
    "families": ["ipv4", "ipv6"],
    "profile": "core",
    "applies": "all",
    "observe": "probe",
    "source": "KEP-563",
    "fault": "drop",
}


def loaded(tmp_path: Path, *entries: dict[str, Any]) -> Any:
    file = tmp_path / "requirements.yaml"
    file.write_text(yaml.safe_dump({"requirements": list(entries)}))
    return load(file)


def test_entry_is_read(tmp_path: Path) -> None:
    (found,) = loaded(tmp_path, ENTRY | {"needs": ["ipvs"], "disruptive": True}).values()
    assert found.families == (Family.IPV4, Family.IPV6)
    assert found.level is Level.CORE
    assert found.disruptive
    assert found.needs == ("ipvs",)
    assert not found.pair
    assert found.test_prefix == "test_svc_007_"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"families": "both"}, "write `pair`"),
        ({"families": ["ipv6", "ipv4"]}, "write `pair`"),
        ({"families": []}, "write `pair`"),
        ({"profile": "C"}, "core, extended, informational"),
        ({"needs": ["ipsv"]}, "known features"),
        ({"group": "routing"}, "prefix"),
        ({"id": "SVC-7"}, "prefix"),
        ({"faults": "x"}, "unknown keys \\['faults'\\]"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(RequirementError, match=says):
        loaded(tmp_path, ENTRY | change)


def test_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match="missing keys \\['source'\\]"):
        loaded(tmp_path, {k: v for k, v in ENTRY.items() if k != "source"})


def test_double_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match="occurs twice"):
        loaded(tmp_path, ENTRY, ENTRY)


def test_requirement_is_read_from_the_name() -> None:
    assert requirement_of("test_svc_007_both_answer[ipv6]").id == "SVC-007"
    assert requirement_of("test_podip_002_x").families == (Family.IPV4, Family.IPV6)


@pytest.mark.parametrize("name", ["test_x", "test_svc_07_x", "test_svc_007", "svc_007_x"])
def test_name_without_id_is_refused(name: str) -> None:
    with pytest.raises(RequirementError, match="begins with the id"):
        requirement_of(name)


def test_ids_are_without_gaps() -> None:
    by_prefix: dict[str, list[int]] = {}
    for name in requirements():
        prefix, _, number = name.partition("-")
        by_prefix.setdefault(prefix, []).append(int(number))
    for prefix, numbers in by_prefix.items():
        assert numbers == list(range(1, len(numbers) + 1)), prefix
