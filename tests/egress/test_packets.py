"""PKT-011 and PKT-018: judgements of captured packets."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from helpers.hop_limits import Arrival, hop_findings, require_arrived
from helpers.model import Family
from helpers.paths import Path
from helpers.spoofing import LEGAL, Flight, spoof_findings, undecided
from helpers.verdicts import Blocked

V4, V6 = Family.IPV4, Family.IPV6


def path(a: str, b: str) -> Path:
    agent: Any = object()
    return Path(agent, agent, (f"pod on {a}", f"pod on {b}"), (a, b))


def arrival(a: str, b: str, *seen: int, family: Family = V6) -> Arrival:
    return Arrival(path(a, b), family, 61, seen)


class TestHops:
    def test_one_node_and_two(self) -> None:
        assert hop_findings([arrival("a", "a", 60), arrival("a", "b", 59)]) == []

    def test_a_hop_limit_that_is_set_anew(self) -> None:
        """nft: ip6 hoplimit set 64."""
        found = hop_findings([arrival("a", "a", 60), arrival("a", "b", 64)])
        assert found == [
            "IPv6 from the pod on a to the pod on b: sent with hop limit 61, arrived with 64: "
            "fell by -3, expected 2: a node rewrites it, or the path has another number of routers"
        ]

    def test_the_older_family_says_ttl(self) -> None:
        (found,) = hop_findings([arrival("a", "a", 59, family=V4)])
        assert "sent with TTL 61, arrived with 59: fell by 2, expected 1" in found

    def test_what_does_not_arrive_is_not_judged(self) -> None:
        assert hop_findings([arrival("a", "b")]) == []
        with pytest.raises(Blocked, match="CONN-002"):
            require_arrived([arrival("a", "b")])
        with pytest.raises(Blocked, match="CONN-001"):
            require_arrived([arrival("a", "a")])


PLACES = ("eth0 of the pod on b", "eth0 of node a")


def flight(
    kind: str, *seen: str, left: bool = True, refused: str | None = None, source: str = "fd00::1"
) -> Flight:
    return Flight(
        kind, ip_address(source), "pod on a", "udp to the pod on b", left, refused, seen, PLACES
    )


class TestSpoofing:
    def test_dropped_at_the_first_hop(self) -> None:
        flights = [flight(LEGAL, *PLACES), flight("another node"), flight("outside")]
        assert spoof_findings(flights) == []
        assert undecided(flights) == []

    def test_a_pod_that_may_send_from_everywhere(self) -> None:
        """F19: workloadSourceSpoofing=Any and allowedSourcePrefixes."""
        forged = flight("a pod of another node", *PLACES, source="fd00:10:244::13")
        (found,) = spoof_findings([flight(LEGAL, *PLACES), forged])
        assert found.startswith(
            "IPv6 udp to the pod on b from pod on a with source fd00:10:244::13 (a pod of another "
            "node), not its own, was seen on eth0 of the pod on b, eth0 of node a: anti-spoofing "
            "is off for this pod; set workloadSourceSpoofing to Disabled"
        )

    def test_a_forged_packet_that_dies_only_at_the_second_node(self) -> None:
        (found,) = spoof_findings([flight("outside", PLACES[1])])
        assert "was seen on eth0 of node a" in found

    def test_the_pods_own_source_is_never_a_finding(self) -> None:
        assert spoof_findings([flight(LEGAL, *PLACES)]) == []

    def test_a_control_that_was_not_seen_everywhere(self) -> None:
        (found,) = undecided([flight(LEGAL, PLACES[0])])
        assert found.startswith("control failed: udp to the pod on b from pod on a")

    def test_a_forged_packet_that_never_left(self) -> None:
        (found,) = undecided([flight("loopback", left=False, refused="EINVAL on sending")])
        assert found.endswith("is not known to have left: EINVAL on sending")
        # One that was seen further on did leave, whatever the first capture saw.
        assert undecided([flight("outside", PLACES[0], left=False)]) == []
