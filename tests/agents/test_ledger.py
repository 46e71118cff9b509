"""Accounting of continuous flows: pure, with times of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.agents.remote.ledger import Bitmap, Ledger


def ledger(delivered: str, interval: float = 0.1, patience: float = 1.0) -> Ledger:
    """One number per letter: ``x`` delivered at once, ``.`` lost."""
    made = Ledger(patience)
    for index, letter in enumerate(delivered):
        number = made.send(index * interval)
        if letter == "x":
            made.deliver(number, index * interval + 0.001)
    return made


def test_a_gap_has_the_length_between_first_lost_and_next_delivered() -> None:
    report = ledger("xxx...xx").report(10.0, final=True)
    (gap,) = report["gaps"]
    assert report["lost"] == gap["lost"] == 3
    assert gap["began"] == pytest.approx(0.3)
    assert gap["seconds"] == pytest.approx(0.3)
    assert gap["at_least"] == pytest.approx(0.2)
    assert gap["at_most"] == pytest.approx(0.4)
    assert not gap["open"]


def test_longest_gap_and_total_loss_are_two_numbers() -> None:
    flapping = ledger("x." * 50 + "x").report(60.0, final=True)
    outage = ledger("x" * 25 + "." * 50 + "x" * 26).report(60.0, final=True)
    assert flapping["lost"] == outage["lost"] == 50
    assert flapping["gaps"][0]["seconds"] == pytest.approx(0.1)
    assert outage["gaps"][0]["seconds"] == pytest.approx(5.0)
    assert flapping["outage"] == pytest.approx(outage["outage"])


def test_a_gap_that_is_not_over_lasts_until_now() -> None:
    report = ledger("xx..").report(9.0, final=True)
    (gap,) = report["gaps"]
    assert (gap["open"], gap["lost"]) == (True, 2)
    assert gap["seconds"] == pytest.approx(8.8)


def test_what_was_sent_just_now_is_not_lost_yet() -> None:
    made = ledger("xx..", patience=1.0)
    assert made.report(0.4, final=False)["lost"] == 0
    assert made.report(0.4, final=False)["sent"] == 2
    assert made.report(1.25, final=False)["lost"] == 1
    assert made.report(0.4, final=True)["lost"] == 2


def test_late_answers_are_one_stall_and_no_loss() -> None:
    made = Ledger(patience=0.2)
    numbers = [made.send(at / 10) for at in range(10)]
    for number in numbers:
        made.deliver(number, 1.5)
    report = made.report(2.0, final=True)
    assert report["lost"] == 0
    assert report["stalls"] == [[0.0, 1.5, 1.5]]
    assert report["slowest"] == pytest.approx(1.5)


def test_a_stall_that_goes_on_is_told() -> None:
    made = ledger("xx..", patience=1.0)
    (stall,) = made.report(4.2, final=False)["stalls"]
    assert stall == [pytest.approx(0.2), 4.2, pytest.approx(4.0)]


def test_a_sender_that_was_held_up_widens_the_bounds_and_makes_no_gap() -> None:
    made = Ledger(patience=1.0)
    for at in (0.0, 0.1, 3.0, 3.1):
        made.deliver(made.send(at), at)
    report = made.report(4.0, final=True)
    assert (report["lost"], report["gaps"]) == (0, [])
    assert report["longest_pause"] == pytest.approx(2.9)


def test_the_first_word_about_a_number_counts() -> None:
    made = Ledger(patience=1.0)
    number = made.send(0.0)
    made.fail(number, "refused")
    made.deliver(number, 0.1)
    report = made.report(1.0, final=True)
    assert (report["lost"], report["errors"]) == (1, {"refused": 1})


@given(st.lists(st.integers(0, 500), max_size=300))
def test_a_receivers_bitmap_settles_exactly_what_it_saw(seen: list[int]) -> None:
    bitmap = Bitmap()
    for number in seen:
        bitmap.add(number)
    assert bitmap.count == len(set(seen))
    assert bitmap.duplicates == len(seen) - len(set(seen))
    made = ledger("." * 400)
    made.settle(bitmap.text())
    report = made.report(1000.0, final=True)
    assert report["lost"] == len(set(range(400)) - set(seen))


@given(st.text(alphabet="x.", min_size=1, max_size=200))
def test_gaps_add_up_to_the_loss(pattern: str) -> None:
    report = ledger(pattern).report(1000.0, final=True)
    assert report["sent"] == len(pattern)
    assert report["lost"] == pattern.count(".")
    assert sum(gap["lost"] for gap in report["gaps"]) == report["lost"]
    assert report["gap_count"] == len([run for run in pattern.split("x") if run])
    for gap in report["gaps"]:
        assert gap["at_least"] <= gap["seconds"] <= gap["at_most"] + 1e-9
