"""Missed, surplus, consequence: what a run under a fault is said to have shown."""

from __future__ import annotations

from helpers.faults.comparison import Seen, compare, share
from helpers.faults.expectations import Expectation, Key
from helpers.faults.grouping import merged
from helpers.model import Verdict

ROW = Expectation(
    id="F11",
    title="t",
    must=("CONN-002 ipv6", "CONN-003 ipv6"),  # type: ignore[arg-type]
    may={"CONN-009 ipv6": "depends"},  # type: ignore[dict-item]
)
RED, GREEN = Seen(Verdict.FAIL, "lost"), Seen(Verdict.PASS)
C2, C3, C5, C9 = (("CONN-002", "ipv6"), ("CONN-003", "ipv6"), ("CONN-005", "ipv6"),
                  ("CONN-009", "ipv6"))  # fmt: skip


def seen(**changes: Seen) -> dict[Key, Seen]:
    names = {"c2": C2, "c3": C3, "c5": C5, "c9": C9}
    base = {C2: RED, C3: RED, C5: GREEN, C9: GREEN}
    return base | {names[name]: it for name, it in changes.items()}


def test_exactly_what_was_expected() -> None:
    found = compare(ROW, seen())
    assert found.exact
    assert found.failed == {C2, C3}


def test_a_green_one_that_must_be_red_is_missed() -> None:
    found = compare(ROW, seen(c3=GREEN))
    assert found.missed == {C3}
    assert not found.exact
    assert not found.killed


def test_undecided_is_not_red() -> None:
    assert compare(ROW, seen(c3=Seen(Verdict.INCONCLUSIVE, "x"))).missed == {C3}
    assert compare(ROW, seen(c3=Seen(Verdict.BLOCKED, "x", "CONN-002"))).missed == {C3}


def test_a_red_one_that_nobody_expected_is_surplus() -> None:
    found = compare(ROW, seen(c5=RED))
    assert found.surplus == {C5}
    assert found.killed
    assert not found.exact


def test_the_other_family_is_surplus() -> None:
    assert compare(ROW, {**seen(), ("CONN-002", "ipv4"): RED}).surplus == {("CONN-002", "ipv4")}


def test_may_is_allowed_red_or_undecided() -> None:
    for it in (RED, Seen(Verdict.INCONCLUSIVE, "x"), Seen(Verdict.BLOCKED, "x", "X-001")):
        found = compare(ROW, seen(c9=it))
        assert found.exact
        assert found.allowed == {C9}


def test_blocked_by_a_red_one_is_a_consequence() -> None:
    found = compare(ROW, seen(c5=Seen(Verdict.BLOCKED, "x", "CONN-002")))
    assert found.exact
    assert found.consequences == {C5}


def test_blocked_over_another_blocked_one_is_a_consequence() -> None:
    first = Seen(Verdict.BLOCKED, "x", "CONN-002")
    second = Seen(Verdict.BLOCKED, "x", "CONN-005")
    found = compare(ROW, {**seen(c5=first), ("SVC-007", "ipv6"): second})
    assert found.consequences == {C5, ("SVC-007", "ipv6")}


def test_blocked_by_a_green_one_is_surplus() -> None:
    found = compare(ROW, seen(c5=Seen(Verdict.BLOCKED, "x", "CFG-009")))
    assert found.surplus == {C5}


def test_inconclusive_without_a_word_is_surplus() -> None:
    assert compare(ROW, seen(c5=Seen(Verdict.INCONCLUSIVE, "agent lost"))).surplus == {C5}


def test_what_was_not_green_before_proves_nothing() -> None:
    found = compare(ROW, seen(c5=RED), ignored=[C3, C5])
    assert not found.surplus
    assert found.absent == {C3}
    assert found.failed == {C2}


def test_what_is_not_tested_here_is_absent_and_not_missed() -> None:
    found = compare(ROW, {C2: RED, C3: Seen(Verdict.SKIPPED, "needs bgp")})
    assert found.exact
    assert found.absent == {C3}


def test_the_share_of_one_fault_among_several() -> None:
    other = Expectation(id="F15", title="t", must=("EGR-003 ipv4",))  # type: ignore[arg-type]
    e3, e9 = ("EGR-003", "ipv4"), ("EGR-009", "ipv4")
    told = seen(c9=RED, c5=Seen(Verdict.BLOCKED, "x", "CONN-002"))
    told |= {e3: RED, e9: Seen(Verdict.BLOCKED, "x", "EGR-003")}
    whole = compare(merged([ROW, other]), told)
    assert whole.exact
    mine, theirs = share(whole, ROW, told), share(whole, other, told)
    assert (mine.failed, mine.consequences, mine.allowed) == ({C2, C3, C9}, {C5}, {C9})
    assert (theirs.failed, theirs.consequences, theirs.allowed) == ({e3}, {e9}, frozenset())
