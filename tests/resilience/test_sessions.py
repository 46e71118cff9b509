"""BGP sessions that were away, and for how long they may be."""

from __future__ import annotations

import pytest

from helpers.model import Family
from helpers.resilience.happenings import Event
from helpers.resilience.limits import LimitsError
from helpers.resilience.sessions import Away, away, longest_allowed, session_findings


def session(at: float, text: str, node: str = "w1", family: Family = Family.IPV6) -> Event:
    return Event(at, "bgp", node, text, family)


def test_sessions_are_away_until_they_are_established_again() -> None:
    events = [
        session(10.0, "Mesh_a: Established -> Active"),
        session(10.0, "BIRD: answers -> does not answer"),
        session(12.0, "Mesh_a: Active -> Connect"),
        session(14.5, "Mesh_a: Connect -> Established"),
        session(20.0, "Mesh_b: Established -> Idle", "w2", Family.IPV4),
        Event(21.0, "process", "w1", "bird6 (pid 7): Established -> absent"),
    ]
    assert away(events) == [
        Away("w1", "Mesh_a", Family.IPV6, 10.0, 14.5),
        Away("w2", "Mesh_b", Family.IPV4, 20.0, None),
    ]


def test_a_session_that_stays_away_is_a_finding_of_its_family_alone() -> None:
    longest = longest_allowed("RES-001")
    events = [
        session(10.0, "Mesh_a: Established -> Active"),
        session(10.0 + longest + 1, "Mesh_a: Active -> Established"),
        session(50.0, "Mesh_a: Established -> Active", family=Family.IPV4),
        session(50.0 + longest - 1, "Mesh_a: Active -> Established", family=Family.IPV4),
        session(90.0, "Mesh_b: Established -> Idle"),
    ]
    found = session_findings("RES-001", events, until=90.0 + longest + 2)
    assert found[Family.IPV4] == []
    first, second = found[Family.IPV6]
    assert "Mesh_a of w1 was not Established for 21.0 s, allowed are 20 s" in first
    assert "for 22.0 s and is not back" in second
    assert "for IPv6" in first


def test_sessions_without_a_limit_are_an_error() -> None:
    with pytest.raises(LimitsError, match="nothing is said of RES-404"):
        longest_allowed("RES-404")
