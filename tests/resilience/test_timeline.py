"""What a timeline shows of everything that happened."""

from __future__ import annotations

from helpers.model import Family
from helpers.resilience.happenings import Event, condensed
from helpers.resilience.study import EVENTS_DRAWN, drawn


def test_bursts_are_told_once_and_what_is_apart_stays_apart() -> None:
    def restarts(at: float, pid: int) -> Event:
        return Event(at, "process", "w1", f"calico-node -felix (pid {pid}): absent -> runs")

    events = [
        *(restarts(10.0 + i / 10, i) for i in range(5)),
        restarts(20.0, 9),
        Event(10.1, "process", "w2", "bird6 (pid 7): runs -> absent"),
        Event(10.2, "pod", "calico-node-a on w1", "Ready -> absent"),
        Event(10.3, "pod", "calico-node-a on w1", "absent -> not Ready"),
    ]
    told = condensed(events)
    assert [(e.at, e.where) for e in told] == [
        (10.0, "w1"),
        (10.1, "w2"),
        (10.2, "calico-node-a on w1"),
        (10.3, "calico-node-a on w1"),
        (20.0, "w1"),
    ]
    assert told[0].text.startswith("5 changes: calico-node -felix (pid 0): absent -> runs; ")
    assert told[0].text.endswith("; and 2 more")


def test_a_timeline_keeps_what_tells_most_of_endless_changes() -> None:
    routes = [
        Event(float(at * 3), "route", "w1", "route added: fd00::1", Family.IPV6)
        for at in range(EVENTS_DRAWN * 2)
    ]
    session = Event(5000.0, "bgp", "w1", "Mesh_a: Established -> Idle", Family.IPV6)
    told = drawn([*routes, session])
    assert len(told) <= EVENTS_DRAWN + 1
    assert session in told
    assert any("more changes of routes and addresses are not drawn" in e.text for e in told)
