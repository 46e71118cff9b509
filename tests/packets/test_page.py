"""The page of a run's packets: outcomes beside what the RFCs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.model import FAMILIES, Family
from helpers.packet_matrix.expected import expectations
from reports import packets_page
from reports.model import ResultsError


def row(shape: str, kind: str, outcome: str, family: Family = Family.IPV6) -> dict[str, Any]:
    return {
        "family": family.value,
        "shape": shape,
        "carrier": "udp",
        "kind": kind,
        "way": "a -> b",
        "outcome": outcome,
        "lost_after": None,
        "attempts": 1,
    }


def table(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Cells by the packet's words."""
    lines = packets_page._table(Family.IPV6, rows)[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {each[0]: each[1:] for each in cells}


def test_every_shape_has_a_line_and_what_was_not_sent_a_dash() -> None:
    found = table([row("plain", "same node", "delivered")])
    assert len(found) == len(expectations()[Family.IPV6])
    assert found["no extension header"] == [
        "delivered (RFC 8200 3)", "delivered", *["-"] * 5
    ]  # fmt: skip


def test_what_the_rfc_does_not_want_is_bold() -> None:
    rows = [
        row("other/no-next-header", "same node", "dropped"),
        row("fragment/chain-cut-early", "same node", "error 4/3 from target"),
        row("hbh/padn", "other node", "delivered"),
        row("hbh/padn", "other node", "dropped"),
    ]
    found = table(rows)
    assert found["no next header (59)"][1] == "**dropped**"
    cut = found["a first fragment that ends inside of the header chain"]
    assert cut[1] == "error 4/3 from target"
    assert found["hop-by-hop with padding"][2] == "delivered, **dropped**"


def test_deviations_are_explained() -> None:
    told = "\n".join(packets_page._notes(Family.IPV6))
    assert "connection tracking calls it INVALID, and Calico drops what is" in told


def test_a_run_without_the_matrix_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="run PKT-022 first"):
        packets_page.rows_of(tmp_path)
    for family in FAMILIES:
        folder = tmp_path / f"PKT-022-{family}"
        folder.mkdir()
        one = row("plain", "same node", "delivered", family)
        (folder / "packets.json").write_text(json.dumps([one]))
    assert [each["family"] for each in packets_page.rows_of(tmp_path)] == list(FAMILIES)
