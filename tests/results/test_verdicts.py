"""What a test does decides the verdict, in results.json and in JUnit alike."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.results.conftest import Project

WORKERS = ("-n0", "-n2")

EVERY_OUTCOME = """
def test_svc_001_passes(family): pass
def test_svc_002_fails(): assert {"ipv4"} == {"ipv4", "ipv6"}
def test_svc_003_fails_by_pytest(): pytest.fail("said so")
def test_svc_004_blocked(family): raise Blocked("PODIP-002", "pod has no address", family)
def test_svc_005_inconclusive(family): raise Inconclusive("agent lost")
def test_svc_006_broken(family): raise KeyError("typo")
def test_svc_007_skipped(family): pytest.skip("kernel has no sctp")
def test_svc_008_skipped_silently(family): pytest.skip("")
@pytest.mark.xfail(reason="calico#8821")
def test_svc_009_known(family): assert 0, "lost"
@pytest.mark.xfail(reason="calico#8821")
def test_svc_010_stale_mark(family): pass
@pytest.fixture
def broken_setup(): assert 0, "no namespace"
def test_svc_011_setup(family, broken_setup): pass
@pytest.fixture
def broken_cleanup():
    yield
    raise RuntimeError("namespace stays")
def test_svc_012_cleanup(family, broken_cleanup): pass
def test_svc_014_fails_and_cleanup(family, broken_cleanup): assert 0, "first"
"""


@pytest.mark.parametrize("workers", WORKERS)
def test_outcome_becomes_verdict(project: Project, workers: str) -> None:
    project.suite(EVERY_OUTCOME)
    run = project.run(workers)
    expected = {
        "SVC-001": "pass",
        "SVC-002": "fail",
        "SVC-003": "fail",
        "SVC-004": "blocked",
        "SVC-005": "inconclusive",
        "SVC-006": "inconclusive",
        "SVC-007": "skipped",
        "SVC-008": "inconclusive",
        "SVC-009": "skipped",
        "SVC-010": "inconclusive",
        "SVC-011": "inconclusive",
        "SVC-012": "inconclusive",
        "SVC-014": "fail",
    }
    families = {"SVC-002": ["pair"], "SVC-003": ["pair"]}
    assert run.verdicts == {
        (name, family): verdict
        for name, verdict in expected.items()
        for family in families.get(name, ["ipv4", "ipv6"])
    }
    assert run.code == 1
    assert run.results["run"]["complete"] is True


def test_reasons_say_what_happened(project: Project) -> None:
    project.suite(EVERY_OUTCOME)
    run = project.run("-n0")

    def reason(name: str, family: str = "ipv6") -> str:
        found: str = run.entry(name, family)["reason"]
        return found

    assert reason("SVC-001") == ""
    assert reason("SVC-002", "pair").startswith("assert {'ipv4'} == {'ipv4', 'ipv6'}")
    assert reason("SVC-003", "pair") == "said so"
    assert reason("SVC-004") == "blocked by PODIP-002 [ipv6]: pod has no address"
    assert reason("SVC-005") == "agent lost"
    assert reason("SVC-006") == "defect of the harness: KeyError: 'typo'"
    assert reason("SVC-007") == "kernel has no sctp"
    assert "without a reason" in reason("SVC-008")
    assert reason("SVC-009").startswith("expected to fail: calico#8821 (observed: lost")
    assert "remove the xfail mark" in reason("SVC-010")
    assert reason("SVC-011").startswith("setup of the test: AssertionError: no namespace")
    assert reason("SVC-012") == "teardown of the test: RuntimeError: namespace stays"
    assert reason("SVC-014").startswith("first")


def test_junit_is_never_greener_than_the_verdict(project: Project) -> None:
    project.suite(EVERY_OUTCOME)
    run = project.run("-n2")
    cases = {
        case.attrib["name"]: case for case in ET.fromstring(run.file("junit.xml")).iter("testcase")
    }

    def child(name: str, tag: str) -> str:
        found = cases[name].find(tag)
        assert found is not None, ET.tostring(cases[name])
        return found.attrib["message"]

    blocked = child("test_svc_004_blocked[ipv6]", "skipped")
    assert blocked == "BLOCKED by PODIP-002 [ipv6]: pod has no address"
    lost = child("test_svc_005_inconclusive[ipv4]", "failure")
    assert lost == "INCONCLUSIVE: agent lost"
    assert child("test_svc_006_broken[ipv4]", "failure").startswith("INCONCLUSIVE: defect")
    assert child("test_svc_008_skipped_silently[ipv4]", "failure").startswith("INCONCLUSIVE:")
    assert "INCONCLUSIVE: setup" in child("test_svc_011_setup[ipv4]", "error")
    assert not child("test_svc_002_fails", "failure").startswith("INCONCLUSIVE")


@pytest.mark.parametrize("workers", WORKERS)
def test_worst_verdict_of_several_tests_counts(project: Project, workers: str) -> None:
    project.suite(
        """
def test_svc_007_clusterip_tcp(family, evidence): evidence.attach("a.txt", "1", always=True)
def test_svc_007_clusterip_udp(family, evidence):
    evidence.attach("a.txt", "2", always=True)
    assert family == "ipv4", "udp lost"
def test_svc_007_from_nodes(family): pass
"""
    )
    run = project.run(workers)
    assert run.verdicts == {("SVC-007", "ipv4"): "pass", ("SVC-007", "ipv6"): "fail"}
    entry = run.entry("SVC-007", "ipv6")
    assert entry["test"].endswith("test_svc_007_clusterip_udp[ipv6]")
    assert entry["reason"].startswith("udp lost")
    assert {"SVC-007-ipv6/a.txt", "SVC-007-ipv6/a-2.txt"} <= set(entry["evidence"])


def test_running_out_of_time_is_inconclusive(project: Project) -> None:
    project.suite(
        """
@pytest.mark.timeout(0.3, method="signal")
def test_svc_007_hangs(family):
    signal.pause()
"""
    )
    run = project.run("-n0")
    assert run.verdicts[("SVC-007", "ipv4")] == "inconclusive"
    assert run.entry("SVC-007", "ipv4")["reason"].startswith("the test ran out of time")
    assert run.code == 3


def test_evidence_is_kept_for_failures(project: Project) -> None:
    project.suite(
        """
def test_svc_007_evidence(family, evidence):
    evidence.attach("routes.txt", "default via fe80::1")
    evidence.attach("state.json", {"lost": [3]}, always=True)
    evidence.on_failure("rules.txt", lambda: "rule 1")
    evidence.on_failure("gone/../odd name", lambda: 1 / 0)
    assert family == "ipv6"
"""
    )
    run = project.run("-n0")
    assert run.entry("SVC-007", "ipv6")["evidence"] == ["SVC-007-ipv6/state.json"]
    files = run.entry("SVC-007", "ipv4")["evidence"]
    assert [name.partition("/")[2] for name in files] == [
        "routes.txt",
        "state.json",
        "failure.txt",
        "rules.txt",
        "gone_.._odd_name",
    ]
    assert run.file("SVC-007-ipv4/routes.txt") == "default via fe80::1"
    assert "could not be collected: ZeroDivisionError" in run.file("SVC-007-ipv4/gone_.._odd_name")
    assert "assert family ==" in run.file("SVC-007-ipv4/failure.txt")


def test_waits_travel_with_the_verdict(project: Project) -> None:
    project.suite(
        """
from helpers.waiting import eventually
@pytest.fixture
def namespace():
    eventually(lambda: 1, bool, within=1, what="namespace")
    yield
    eventually(lambda: 1, bool, within=1, what="cleanup")
def test_svc_007_waits(family, namespace):
    eventually(lambda: 1, bool, within=2, what="endpoints")
"""
    )
    run = project.run("-n0")
    for family in ("ipv4", "ipv6"):
        waits = run.entry("SVC-007", family)["waits"]
        assert [wait["what"] for wait in waits] == ["namespace", "endpoints"]
        assert waits[1]["within"] == 2
