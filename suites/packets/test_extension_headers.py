"""IPv6 extension headers, fragments and IPv4 options: forwarded, answered or dropped as written.

What must become of each packet is in expected.yaml, with its source.
"""

from __future__ import annotations

from helpers.evidence import Evidence
from helpers.findings import demand_none
from helpers.model import Family
from helpers.packet_matrix import judge, repeat, ways
from helpers.packet_matrix.expected import shapes_of
from helpers.packet_matrix.flight import fly_until_told, shots
from helpers.packet_matrix.shapes import variants


def _decide(requirement: str, taken: list[ways.Way], family: Family, evidence: Evidence) -> None:
    """Send the shapes of a requirement along all ways, each beside a plain packet, and judge."""
    wanted = shots(taken, variants(family, shapes_of(requirement, family)))
    seen = fly_until_told(wanted, judge.lacks_error)
    evidence.attach("packets.json", repeat.rows(seen), always=True)
    repeat.attach(evidence, judge.failing(seen))
    findings = judge.findings(seen)
    demand_none(findings)
    judge.require_plain(seen)


def test_pkt_001_hop_by_hop_headers_are_forwarded(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """Hop-by-hop options pass every node; what is misplaced or unknown is answered as written.

    Given: pods within and between nodes, a plain packet beside each packet with the header
    Then: padding, Router Alert and options that may be skipped are delivered up to 1024 octets;
        option actions 01, 10, 11 are silence and Parameter Problem of the first node; the header
        in any place but the first is answered by the destination
    Source: RFC 8200 4.1 to 4.3, RFC 2711, RFC 2675 3, RFC 9673
    """
    _decide("PKT-001", between_pods, family, evidence)


def test_pkt_002_destination_options_are_forwarded(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """Destination options pass every node, and the destination does what they say.

    Given: pods within and between nodes, a plain packet beside each packet with the header
    Then: padding and options that may be skipped are delivered up to 1024 octets, alone and in
        every order with other headers; actions 01, 10, 11 are silence and Parameter Problem
    Source: RFC 8200 4.1, 4.2, 4.6
    """
    _decide("PKT-002", between_pods, family, evidence)


def test_pkt_003_routing_headers_are_not_executed(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """A type 0 routing header leads no packet anywhere.

    Given: pods within and between nodes, and a third pod that the routing header names
    Then: the third pod sees nothing and the destination answers Parameter Problem; a header
        without segments left is ignored
    Source: RFC 5095 3, RFC 8200 4.4
    """
    _decide("PKT-003", between_pods, family, evidence)


def test_pkt_004_segments_are_not_followed(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """A segment routing header leads no packet anywhere with default settings.

    Given: pods within and between nodes, and a third pod that is the next segment
    Then: the third pod sees nothing, and the destination sends nothing on
    Source: RFC 8754 4.3, RFC 8200 4.4
    """
    _decide("PKT-004", between_pods, family, evidence)


def test_pkt_005_fragments_are_delivered(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """Datagrams that their source fragmented arrive, in whatever order their fragments leave.

    Given: pods within and between nodes, datagrams of 2400 octets in 2 and in 10 fragments
    Then: the destination answers each, in order and reversed
    Source: RFC 8200 4.5, RFC 791 3.2
    """
    _decide("PKT-005", between_pods, family, evidence)


def test_pkt_006_overlapping_fragments_are_not_delivered(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """Fragments that overlap are dropped, and nobody says so.

    Given: pods within and between nodes, datagrams whose fragments overlap
    Then: the destination never answers, and no ICMP error comes
    Source: RFC 5722 4, RFC 8200 4.5
    """
    _decide("PKT-006", between_pods, family, evidence)


def test_pkt_007_atomic_fragments_are_delivered(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """A datagram in one fragment arrives.

    Given: pods within and between nodes, atomic fragments, alone and beside an unfinished datagram
    Then: the destination answers
    Source: RFC 6946 4
    """
    _decide("PKT-007", between_pods, family, evidence)


def test_pkt_008_first_fragments_hold_the_whole_chain(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """A datagram whose first fragment lacks headers is not delivered.

    Given: pods within and between nodes, datagrams cut inside of their header chain
    Then: the destination never answers
    Source: RFC 7112 5
    """
    _decide("PKT-008", between_pods, family, evidence)


def test_pkt_009_unknown_next_headers(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """Recorded: next headers that nobody handles, ESP, AH, and no next header.

    Given: pods within and between nodes
    Then: each is forwarded and answered by the destination as it does today; "no next header" is
        dropped by Calico
    Source: RFC 8200 4, 4.7; Calico felix/rules/endpoints.go appendConntrackRules
    """
    _decide("PKT-009", between_pods, family, evidence)


def test_pkt_010_long_chains_are_forwarded(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """Chains of up to 40 headers arrive.

    Given: pods within and between nodes, chains of 4, 8, 16 and 40 destination options headers
    Then: the destination answers each
    Source: RFC 8200 4.1
    """
    _decide("PKT-010", between_pods, family, evidence)


def test_pkt_021_options_of_ipv4_are_forwarded(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """IPv4 options pass every node, but source routes lead nowhere.

    Given: pods within and between nodes, a plain packet beside each packet with an option
    Then: No Operation, Record Route, Timestamp, Router Alert and an unknown option are delivered;
        loose and strict source routes are dropped, and the third pod sees nothing
    Source: RFC 791 3.1, RFC 1122 3.2.1.8, RFC 7126 4
    """
    _decide("PKT-021", between_pods, family, evidence)
