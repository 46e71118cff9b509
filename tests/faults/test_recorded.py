"""The expected sets against what a live cluster showed: a changed row does not fit any more."""

from __future__ import annotations

import pytest

from helpers.faults.comparison import compare
from helpers.faults.expectations import Expectation, expectations, named
from helpers.model import Verdict
from tests.faults.recorder import recorded

SEEN = recorded()
EACH = pytest.mark.parametrize("name", SEEN)


@EACH
def test_the_expected_sets_are_those_of_the_live_cluster(name: str) -> None:
    found = compare(expectations()[name], SEEN[name])
    assert found.exact, f"missed {named(found.missed)}, surplus {named(found.surplus)}"


@EACH
def test_a_verdict_less_in_a_row_is_noticed(name: str) -> None:
    row = expectations()[name]
    red = [key for key in row.must if key in SEEN[name]]
    for key in red:
        less = row.model_copy(update={"must": tuple(k for k in row.must if k != key)})
        assert key in compare(less, SEEN[name]).surplus


@EACH
def test_a_verdict_more_in_a_row_is_noticed(name: str) -> None:
    row = expectations()[name]
    green = [key for key, it in SEEN[name].items() if it.verdict is Verdict.PASS]
    for key in green:
        more = row.model_copy(update={"must": (*row.must, key)})
        assert key in compare(_without(more, key), SEEN[name]).missed


def _without(row: Expectation, key: tuple[str, str]) -> Expectation:
    """The row with a verdict in `must` only."""
    return row.model_copy(update={"may": {k: v for k, v in row.may.items() if k != key}})
