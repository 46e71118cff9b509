"""Waits: deadlines, stories and head-room, on a clock that takes no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from helpers.waiting import (
    Deadline,
    NotSettled,
    WaitRecord,
    consistently,
    drain_waits,
    eventually,
    lastingly,
)


class FakeTime:
    """Time that passes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.at += max(seconds, 1e-6)


@pytest.fixture
def clock() -> Iterator[FakeTime]:
    drain_waits()
    yield FakeTime()
    drain_waits()


def becoming(clock: FakeTime, changes: dict[float, str], cost: float = 0.0) -> Callable[[], str]:
    """Observation whose value changes at given seconds; each look takes ``cost`` seconds."""
    start = clock.now()

    def observe() -> str:
        seen = [value for at, value in changes.items() if clock.now() - start >= at]
        clock.at += cost
        return seen[-1]

    return observe


def is_up(state: str) -> bool:
    return state == "up"


def test_a_state_that_holds_already_costs_one_probe_and_no_time(clock: FakeTime) -> None:
    assert eventually(lambda: "up", is_up, within=5, sleeper=clock) == "up"
    assert drain_waits() == [WaitRecord("is up", 0.0, 5, 1)]


def test_the_wait_ends_when_the_state_comes(clock: FakeTime) -> None:
    eventually(becoming(clock, {0: "down", 2.2: "up"}), is_up, within=5, sleeper=clock)
    (record,) = drain_waits()
    assert record.waited == pytest.approx(2.5)
    assert record.probes == 6
    assert record.settled


def test_success_in_the_last_probe_is_success(clock: FakeTime) -> None:
    observe = becoming(clock, {0: "down", 5.0: "up"})
    assert eventually(observe, is_up, within=5, every=2, sleeper=clock) == "up"


def test_a_slow_look_that_began_in_time_counts(clock: FakeTime) -> None:
    observe = becoming(clock, {0: "down", 4: "up"}, cost=3.0)
    assert eventually(observe, is_up, within=5, sleeper=clock) == "up"


def test_a_slow_look_counts_toward_the_deadline(clock: FakeTime) -> None:
    with pytest.raises(NotSettled):
        eventually(becoming(clock, {0: "down"}, cost=3.0), is_up, within=5, sleeper=clock)
    (record,) = drain_waits()
    assert record.probes == 3  # at 0, 3 and 6 s
    assert not record.settled


def test_the_failure_tells_every_change_and_the_deadline(clock: FakeTime) -> None:
    observe = becoming(clock, {0: "12 ok", 1.5: "4 ok, 8 TIMEOUT", 4: "10 ok"})
    with pytest.raises(NotSettled) as caught:
        eventually(observe, is_up, within=6, what="all cells reached", sleeper=clock)
    message = str(caught.value)
    assert message.startswith("all cells reached: not within 6 s; ")
    assert "+0.0s 12 ok | +1.5s 4 ok, 8 TIMEOUT | +4.0s 10 ok" in message
    assert "still not ready at +9" in message
    assert [text for _, text in caught.value.timeline] == ["12 ok", "4 ok, 8 TIMEOUT", "10 ok"]
    assert caught.value.last == "10 ok"


def test_slow_is_told_from_broken(clock: FakeTime) -> None:
    with pytest.raises(NotSettled, match=r"ready 2\.\d s late") as caught:
        eventually(becoming(clock, {0: "down", 12: "up"}), is_up, within=10, sleeper=clock)
    assert caught.value.late_by == pytest.approx(2, abs=0.6)
    (record,) = drain_waits()
    assert not record.settled
    assert record.waited == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(("within", "tail"), [(4.0, 2.0), (60.0, 5.0)])
def test_the_tail_is_bounded(clock: FakeTime, within: float, tail: float) -> None:
    start = clock.now()
    with pytest.raises(NotSettled):
        eventually(lambda: "down", is_up, within=within, sleeper=clock)
    assert clock.now() - start == pytest.approx(within + tail, abs=0.6)


def test_an_error_in_the_tail_does_not_hide_the_failure(clock: FakeTime) -> None:
    start = clock.now()

    def observe() -> str:
        if clock.now() - start > 2.5:
            raise OSError("gone")
        return "down"

    with pytest.raises(NotSettled, match="OSError: gone"):
        eventually(observe, is_up, within=2, sleeper=clock)


def test_k_in_a_row_starts_again_after_a_bad_look(clock: FakeTime) -> None:
    states = iter(["up", "up", "down", "up", "up", "up"])
    eventually(lambda: next(states), is_up, within=60, in_a_row=3, sleeper=clock)
    (record,) = drain_waits()
    assert record.probes == 6


def test_k_in_a_row_fails_when_the_deadline_comes_first(clock: FakeTime) -> None:
    observe = becoming(clock, {0: "down", 1.9: "up"})
    with pytest.raises(NotSettled, match="3 times in a row") as caught:
        eventually(observe, is_up, within=2, in_a_row=3, sleeper=clock)
    assert caught.value.late_by is not None


def test_a_fatal_state_ends_the_wait_at_once(clock: FakeTime) -> None:
    def hopeless(state: str) -> str | None:
        return "image does not exist" if state == "ErrImagePull" else None

    start = clock.now()
    observe = becoming(clock, {0: "Pending", 1: "ErrImagePull"})
    with pytest.raises(NotSettled, match="cannot happen any more: image does not exist"):
        eventually(observe, is_up, within=60, fatal=hopeless, sleeper=clock)
    assert clock.now() - start == pytest.approx(1, abs=0.1)


def test_a_fatal_predicate_may_be_a_plain_bool(clock: FakeTime) -> None:
    with pytest.raises(NotSettled, match="any more: broken"):
        eventually(lambda: "broken", is_up, within=9, fatal=lambda s: s == "broken", sleeper=clock)


def test_exceptions_escape_unless_listed(clock: FakeTime) -> None:
    def observe() -> str:
        raise KeyError("status")

    with pytest.raises(KeyError):
        eventually(observe, is_up, within=5, sleeper=clock)


def test_listed_exceptions_are_states_of_the_timeline(clock: FakeTime) -> None:
    answers: Iterator[str | Exception] = iter([ConnectionError("refused"), "down", "up"])

    def observe() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert eventually(observe, is_up, within=5, retry_on=(ConnectionError,), sleeper=clock) == "up"

    with pytest.raises(NotSettled, match="ConnectionError: refused"):
        eventually(
            lambda: (_ for _ in ()).throw(ConnectionError("refused")),
            is_up,
            within=5,
            retry_on=(ConnectionError,),
            sleeper=clock,
        )


def test_an_error_between_good_looks_breaks_the_row(clock: FakeTime) -> None:
    answers: Iterator[str | None] = iter(["up", None, "up", "up"])

    def observe() -> str:
        answer = next(answers)
        if answer is None:
            raise ConnectionError
        return answer

    eventually(observe, is_up, within=9, in_a_row=2, retry_on=(ConnectionError,), sleeper=clock)
    (record,) = drain_waits()
    assert record.probes == 4


def test_none_is_a_state_like_any_other(clock: FakeTime) -> None:
    assert eventually(lambda: None, lambda s: s is None, within=1, sleeper=clock) is None


def test_a_flapping_state_does_not_fill_the_screen(clock: FakeTime) -> None:
    count = iter(range(10_000))
    with pytest.raises(NotSettled) as caught:
        eventually(lambda: f"s{next(count)}", is_up, within=30, sleeper=clock)
    assert "more changes" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_consistently_demands_the_whole_time(clock: FakeTime) -> None:
    start = clock.now()
    assert consistently(lambda: "up", is_up, during=3, sleeper=clock) == "up"
    assert clock.now() - start == pytest.approx(3, abs=0.1)
    assert drain_waits()[0].probes == 7


def test_consistently_says_when_it_broke(clock: FakeTime) -> None:
    observe = becoming(clock, {0: "up", 2: "down"})
    with pytest.raises(NotSettled, match=r"held for 2\.0 s of 5 s, then not"):
        consistently(observe, is_up, during=5, sleeper=clock)


def test_consistently_looks_at_the_end_too(clock: FakeTime) -> None:
    observe = becoming(clock, {0: "up", 5: "down"})
    with pytest.raises(NotSettled):
        consistently(observe, is_up, during=5, every=2, sleeper=clock)


def test_consistently_never_swallows_an_error(clock: FakeTime) -> None:
    def observe() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        consistently(observe, is_up, during=5, sleeper=clock)


def test_lastingly_waits_and_then_demands(clock: FakeTime) -> None:
    late = becoming(clock, {0: "down", 2: "up"})
    assert lastingly(late, is_up, within=5, during=3, sleeper=clock) == "up"
    brief = becoming(clock, {0: "up", 2: "down"})
    with pytest.raises(NotSettled, match=r"held for 2\.0 s of 3 s, then not"):
        lastingly(brief, is_up, within=5, during=3, sleeper=clock)
    never = becoming(clock, {0: "down"})
    with pytest.raises(NotSettled, match="not within 5 s"):
        lastingly(never, is_up, within=5, during=3, sleeper=clock)


def test_a_deadline_runs_down_and_never_below_zero(clock: FakeTime) -> None:
    deadline = Deadline(2, clock)
    clock.sleep(1.5)
    assert deadline.remaining == pytest.approx(0.5)
    assert not deadline.expired
    clock.sleep(9)
    assert deadline.remaining == 0
    assert deadline.expired


def test_real_time_waits_really() -> None:
    """The default clock is the monotonic one: a wait of 50 ms takes 50 ms."""
    drain_waits()
    with pytest.raises(NotSettled):
        eventually(lambda: "down", is_up, within=0.05, every=0.01)
    (record,) = drain_waits()
    assert 0.05 <= record.waited < 1
