"""Matrices: equality, and what a difference says."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import permutations, product

import pytest

from helpers.matrix import Cell, Matrix, decide, explain_matrix
from helpers.model import FAMILIES, Family, Protocol
from helpers.plugin_agents import pytest_assertrepr_compare
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Inconclusive

NODES = ("a", "b", "c")
CELLS = [
    Cell(source, target, family, detail)
    for (source, target), family, detail in product(
        permutations(NODES, 2), FAMILIES, ("tcp", "udp")
    )
]
GOOD = Matrix.expecting(CELLS)


def broken(*bad: Cell, outcome: Outcome = Outcome.TIMEOUT) -> Matrix:
    return GOOD | Matrix(dict.fromkeys(bad, outcome))


def v6(cell: Cell) -> bool:
    return cell.family is Family.IPV6


def explained(observed: Matrix) -> str:
    return "\n".join(explain_matrix(observed, GOOD))


def test_equal_matrices_are_equal_whatever_their_notes_and_order() -> None:
    other = Matrix(dict.fromkeys(reversed(CELLS), Outcome.REACHED), {CELLS[0]: "note"})
    assert other == GOOD
    assert hash(other) == hash(GOOD)
    assert broken(CELLS[0]) != GOOD
    assert GOOD != 1


def test_a_matrix_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        GOOD.cells[CELLS[0]] = Outcome.TIMEOUT  # type: ignore[index]


def test_expecting_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="proves nothing"):
        Matrix.expecting([])


def test_two_probes_for_one_cell_are_refused() -> None:
    seen = Observation(Probe(Protocol.TCP, ip_address("::1"), 80), Outcome.REACHED)
    with pytest.raises(ValueError, match="two probes"):
        Matrix.observed([(CELLS[0], seen), (CELLS[0], seen)])


def test_one_whole_family_is_named_and_the_other_said_to_be_fine() -> None:
    text = explained(broken(*filter(v6, CELLS)))
    assert "connectivity differs in 12 of 24 cells" in text
    assert "in common: all ipv6" in text
    assert "the same paths over the other family: fine (12 of 12)" in text
    assert "ipv4" not in text
    assert "  ipv6 tcp a -> b, c: timeout, expected reached" in text


def test_one_direction_is_named_and_the_opposite_said_to_be_fine() -> None:
    text = explained(broken(*(c for c in CELLS if v6(c) and (c.source, c.target) == ("a", "b"))))
    assert "in common: only ipv6, only a -> b" in text
    assert "the opposite direction: fine (2 of 2)" in text
    assert "over the other family: fine (2 of 2)" in text


def test_one_target_is_named() -> None:
    text = explained(broken(*(c for c in CELLS if c.target == "c")))
    assert "in common: all to c" in text
    assert "the opposite direction: fine (8 of 8)" in text
    assert "the other family" not in text


def test_one_source_of_one_family_is_named() -> None:
    text = explained(broken(*(c for c in CELLS if v6(c) and c.source == "b")))
    assert "in common: only ipv6, only from b" in text


def test_one_protocol_is_named() -> None:
    assert "in common: all udp" in explained(broken(*(c for c in CELLS if c.detail == "udp")))


def test_everything_is_everything() -> None:
    text = explained(broken(*CELLS))
    assert "in common: everything" in text
    assert "fine" not in text


def test_scattered_cells_share_nothing() -> None:
    text = explained(broken(Cell("a", "b", FAMILIES[0], "tcp"), Cell("b", "c", FAMILIES[1], "udp")))
    assert "in common" not in text


def test_what_the_kernel_said_is_printed() -> None:
    cell = CELLS[0]
    text = explained(GOOD | Matrix({cell: Outcome.UNREACHABLE}, {cell: "EHOSTUNREACH"}))
    assert "unreachable, expected reached (EHOSTUNREACH)" in text


def test_cells_that_were_not_probed_are_a_difference() -> None:
    text = explained(GOOD.only(lambda c: c != CELLS[0]))
    assert "was not probed, expected reached" in text
    assert GOOD.only(lambda c: c != CELLS[0]) != GOOD


def test_many_different_cells_do_not_fill_the_screen() -> None:
    cells = [Cell(f"s{i}", f"t{i}", Family.IPV6) for i in range(100)]
    observed = Matrix.expecting(cells, Outcome.REFUSED)
    lines = explain_matrix(observed, Matrix.expecting(cells))
    assert len(lines) < 20
    assert "88 more lines" in lines[-1]


def test_the_summary_is_one_line_with_the_cause() -> None:
    assert GOOD.summary() == "24 reached"
    assert broken(*filter(v6, CELLS)).summary() == "12 reached, 12 timeout (all ipv6)"


def test_pytest_prints_the_explanation() -> None:
    lines = pytest_assertrepr_compare("==", broken(CELLS[0]), GOOD)
    assert lines is not None
    assert lines[0] == "connectivity differs in 1 of 24 cells"
    assert pytest_assertrepr_compare("==", 1, 2) is None


def test_decide_fails_when_a_probed_cell_differs() -> None:
    decide(GOOD, GOOD)
    with pytest.raises(AssertionError, match="differs in 1 of 24"):
        decide(broken(CELLS[0]), GOOD)
    mixed = broken(CELLS[0]) | Matrix({CELLS[1]: Outcome.INCONCLUSIVE})
    with pytest.raises(AssertionError, match="differs in 2 of 24"):
        decide(mixed, GOOD)


def test_decide_is_inconclusive_when_only_probes_failed_to_run() -> None:
    with pytest.raises(Inconclusive, match="differs in 1 of 24"):
        decide(broken(CELLS[0], outcome=Outcome.INCONCLUSIVE), GOOD)


def test_a_blocked_expectation_is_not_met_by_a_probe_that_did_not_run() -> None:
    expected = Matrix.expecting(CELLS, Outcome.TIMEOUT)
    observed = Matrix(dict.fromkeys(CELLS, Outcome.INCONCLUSIVE))
    with pytest.raises(Inconclusive):
        decide(observed, expected)
