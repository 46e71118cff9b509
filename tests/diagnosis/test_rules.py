"""Each seeded fault, as its observations would look: the right rule, word for word.

Findings come from the judgements themselves, so that a changed sentence shows here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from helpers import (
    routing,
)
from helpers.calico import BlockAffinity
from helpers.model import Family
from helpers.resilience.happenings import Event
from helpers.resilience.sessions import session_findings
from tests.diagnosis import stories_settings as settings
from tests.diagnosis import stories_traffic as traffic
from tests.diagnosis.conftest import NODES, cell, cluster, diagnosed, pod_cells, result
from tests.diagnosis.stories import Story, passing

STORIES: list[Callable[[], Story]] = [
    *(getattr(settings, name) for name in dir(settings) if name[0] in "fr" and name[1:2].isdigit()),
    *(getattr(traffic, name) for name in dir(traffic) if name[0] in "fr" and name[1:2].isdigit()),
]


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_the_cause_is_named_word_for_word(tell: Callable[[], Story]) -> None:
    story = tell()
    found = diagnosed(*story.results, info=story.info)
    assert [d.rule for d in found] == [story.rule], [d.cause for d in found]
    (only,) = found
    assert only.cause == story.cause
    assert story.fault in only.faults
    troubles = [r for r in story.results if r.verdict in ("fail", "blocked")]
    assert len(only.consequences) == len(troubles)
    assert only.evidence
    assert not any(re.search(r"\{\w|NODE|POOL\b", step) for step in only.fix[:1])


def test_felix_off_and_a_wide_policy_are_told_apart() -> None:
    """F05 vs F25 by PKT-018 and CFG-013."""
    wide = cluster(
        globalPolicies=[{"name": "wide", "order": 0, "selector": "", "allowsAll": ["ipv6"]}]
    )
    policy = result("NPOL-001", "ipv6", "fail", "default-deny let tcp/8080 through")
    (felix_off,) = diagnosed(*settings.f05().results, info=wide)
    assert felix_off.rule == "felix-ipv6-off"
    (allowed,) = diagnosed(policy, *passing("CFG-013", "PKT-018"), info=wide)
    assert allowed.rule == "global-policy-allows-family"
    (unknown,) = diagnosed(policy, *passing("CFG-013", "PKT-018"))
    assert unknown.rule is None


def test_a_pool_that_is_elsewhere_is_told_from_masquerading() -> None:
    """F03 vs F17 by PODIP-004."""
    seen = traffic.f17().results[2]
    (masqueraded,) = diagnosed(seen, *passing("PODIP-004", "CFG-015"))
    assert masqueraded.rule == "pods-are-masqueraded"
    found = diagnosed(seen, *settings.f03().results)
    assert found[0].rule == "pool-outside-cluster-cidr"
    assert "pods-are-masqueraded" not in [d.rule for d in found]


def test_forwarding_is_told_from_a_lossy_path() -> None:
    """F12 vs F11 by CONN-001."""
    lost = result("CONN-002", "ipv6", "fail", cells=pod_cells([("n1", "n2")]))
    within = result("CONN-001", "ipv6", "fail", cells=[
        cell("pod on n2", "second pod on n2", "tcp", False)])  # fmt: skip
    (path,) = diagnosed(lost, *passing("CONN-001"))
    assert path.rule == "pod-path-loses"
    assert "pod-path-loses" not in [d.rule for d in diagnosed(lost, within)]


def test_a_route_that_is_gone_with_sessions_up() -> None:
    affinity = BlockAffinity(ip_network("fd00:10:244:1::/122"), "n2", "confirmed")
    sentence = routing._not_one("n1", affinity, [])
    (only,) = diagnosed(result("RTE-002", "ipv6", "fail", sentence), *passing("RTE-001"))
    assert only.rule == "block-routes-missing"
    assert only.cause.startswith("n1 has no IPv6 route to block fd00:10:244:1::/122 of n2,")


def test_bgp_that_stays_away_in_a_roll_explains_what_flows_lost() -> None:
    down = Event(10.0, "bgp", "n2", "Mesh_a: Established -> Idle", Family.IPV6)
    said = session_findings("RES-001", [down], until=50.0)[Family.IPV6]
    (only,) = diagnosed(
        result("RES-001", "ipv6", "fail", *said),
        result("RES-002", "ipv6", "fail", "connect ipv6 clusterIP: 20 of 176 lost (11.4%)"),
        *passing("RES-001", "RES-002", family="ipv4"),
    )
    assert only.rule == "bgp-stays-away-in-a-roll"
    assert only.cause.startswith("BGP over IPv6 stayed away at n2 for longer than")
    assert len(only.consequences) == 2


def test_nodes_that_do_not_reach_each_other_block_pods() -> None:
    cells = [cell(a, b, "icmp", "n2" not in (a, b)) for a in NODES for b in NODES if a != b]
    found = diagnosed(
        result("CFG-009", "ipv6", "fail", cells=cells),
        result("CONN-002", "ipv6", "blocked", blocked_by="CFG-009"),
        result("CONN-005", "ipv6", "blocked", blocked_by="CONN-002"),
    )
    (only,) = found
    assert only.rule == "nodes-do-not-reach-each-other"
    assert len(only.consequences) == 3
    assert any(text.startswith("one node: only paths from and to n2") for text in only.asymmetry)


def test_wrong_pools_of_both_families_are_two_causes_with_a_fix_each() -> None:
    stories = [traffic.f15(), traffic.f16()]
    info = stories[0].info
    found = diagnosed(*(r for story in stories for r in story.results), info=info)
    assert [d.cause for d in found] == [story.cause for story in stories]
    assert ["default-ipv4-ippool" in d.fix[0] for d in found] == [True, False]
