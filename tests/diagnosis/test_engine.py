"""The engine: what wins, what goes under what, and what is said when nobody knows."""

from __future__ import annotations

import re

import pytest

from helpers.model import FAMILIES, Family
from helpers.requirements import requirements
from reports.diagnosis import diagnose
from reports.diagnosis.case import names
from reports.diagnosis.rule import Rule, blank, filled
from reports.diagnosis.rules import RULES
from reports.diagnosis.show import diagnosis_lines
from reports.diagnosis.signs import Extra, Finding, Sign
from tests.diagnosis.conftest import cell, cluster, diagnosed, pod_cells, result, run

OFF = (
    "IPv6 forwarding is off on node n2: sysctl net.ipv6.conf.all.forwarding is 0, must be 1 "
    "(Felix sets it once at its start, and only with FELIX_IPV6SUPPORT=true)"
)


def signs_of(rule: Rule) -> list[Sign]:
    return [sign.sign if isinstance(sign, Extra) else sign for sign in rule.signs]


# -- the rules as data ----------------------------------------------------------------------------


def test_names_are_unique() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_every_fault_of_the_catalogue_has_a_rule() -> None:
    proved = {fault for rule in RULES for fault in rule.faults}
    wanted = {f"F{n:02}" for n in range(1, 26)} | {f"R{n}" for n in range(1, 6)}
    assert wanted <= proved


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_speaks_of_requirements_that_exist(rule: Rule) -> None:
    assert set(rule.explains) <= set(requirements())
    spoken = {r for sign in signs_of(rule) for r in getattr(sign, "requirements", ())}
    assert spoken <= set(requirements())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_has_a_fix_whose_braces_are_doubled(rule: Rule) -> None:
    assert rule.fix
    for template in (rule.cause, *rule.fix):
        assert filled(template, (Family.IPV6,), {})
        assert blank(template)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_patterns_match_their_samples(rule: Rule) -> None:
    for sign in signs_of(rule):
        if isinstance(sign, Finding):
            patterns = [sign.pattern.replace("FAMILY", family.kubernetes) for family in FAMILIES]
            assert any(re.search(pattern, sign.sample) for pattern in patterns), sign


# -- consequences ---------------------------------------------------------------------------------


def test_nothing_failed_nothing_is_said() -> None:
    assert diagnosed(result("CONN-002", "ipv6", "pass")) == []
    assert list(diagnosis_lines([])) == []


def test_one_failure_with_ten_symptoms_is_one_diagnosis() -> None:
    lost = [("n1", "n2"), ("n2", "n1"), ("n2", "n3"), ("n3", "n2")]
    outside = [cell(f"pod on {n}", "outside 2001:db8::1", "tcp", n != "n2") for n in ("n1", "n2")]
    found = diagnosed(
        result("CFG-010", "ipv6", "fail", OFF),
        result("CFG-010", "ipv4", "pass"),
        result("CONN-002", "ipv4", "pass"),
        result("CONN-002", "ipv6", "fail", cells=pod_cells(lost)),
        result("CONN-003", "ipv6", "fail", cells=pod_cells(lost, "icmp")),
        result("CONN-011", "ipv6", "fail", cells=[cell("node n1", "pod on n2", "tcp", False)]),
        result("EGR-002", "ipv6", "fail", cells=outside),
        result("CONN-005", "ipv6", "blocked", blocked_by="CONN-002"),
        result("PKT-011", "ipv6", "blocked", blocked_by="CONN-005"),
        result("SVC-007", "ipv6", "fail", cells=[cell("pod on n1", "clusterIP", "tcp", False)]),
    )
    (only,) = found
    assert only.rule == "forwarding-off"
    assert only.cause == (
        "IPv6 forwarding is off on node n2: no pod on n2 can send or receive routed IPv6"
    )
    assert only.fix[0].startswith("on n2: sysctl -w net.ipv6.conf.all.forwarding=1")
    assert [c.id for c in only.consequences] == [
        "CFG-010", "CONN-002", "CONN-003", "CONN-011", "EGR-002", "CONN-005", "PKT-011", "SVC-007",
    ]  # fmt: skip
    assert "one node: only paths from and to n2, other nodes reach each other" in only.asymmetry
    text = " ".join(" ".join(diagnosis_lines(found)).split())
    assert "FAIL CFG-010 [ipv6], CONN-002 [ipv6]" in text
    assert "BLOCKED CONN-005 [ipv6], PKT-011 [ipv6]" in text


def test_losses_elsewhere_are_not_explained_by_a_cause_of_one_node() -> None:
    found = diagnosed(
        result("CFG-010", "ipv6", "fail", OFF),
        result("CONN-002", "ipv6", "fail", cells=pod_cells([("n2", "n1"), ("n1", "n3")])),
    )
    assert [d.rule for d in found] == ["forwarding-off", None]
    assert [c.id for c in found[1].consequences] == ["CONN-002"]


def test_another_family_is_another_cause() -> None:
    found = diagnosed(
        result("CFG-010", "ipv6", "fail", OFF),
        result("CONN-002", "ipv4", "fail", cells=pod_cells([("n1", "n2")])),
    )
    assert [d.rule for d in found] == ["forwarding-off", "pod-path-loses"]


def test_the_same_cause_in_both_families_is_one() -> None:
    lost = pod_cells([("n1", "n2")])
    fine = [
        result(name, family.value, "pass")
        for name in ("CONN-001", "CFG-009")
        for family in FAMILIES
    ]
    (only,) = diagnosed(
        *(result("CONN-002", family.value, "fail", cells=lost) for family in FAMILIES), *fine
    )
    assert only.cause.startswith("IPv4 and IPv6 packets from pods on n1 to pods on n2 are lost")
    assert "both families" in only.asymmetry


def test_the_deeper_rule_wins_over_what_it_causes() -> None:
    down = "BIRD6 on n1: session to n2 (fd00::3) is not Established but start Connect since 8:00"
    gone = "Calico has no IPv6 address for node n2: BIRD6 has no session to it and its IPv6 blocks"
    both = (result("RTE-001", "ipv6", "fail", down, gone), result("CFG-012", "ipv6", "fail", gone))
    (only,) = diagnosed(*both)
    assert only.rule == "calico-has-no-node-address"
    (only,) = diagnosed(result("RTE-001", "ipv6", "fail", down), result("CFG-012", "ipv6", "pass"))
    assert only.rule == "bgp-sessions-down"


# -- unknown --------------------------------------------------------------------------------------


def test_unknown_says_so_and_what_was_ruled_out() -> None:
    (only,) = diagnosed(
        result("CONN-001", "ipv6", "pass"),
        result("CFG-009", "ipv6", "pass"),
        result("CFG-010", "ipv6", "pass"),
        result("RTE-001", "ipv6", "pass"),
        result("SVC-012", "ipv6", "fail", "a client was answered by two backends"),
        result("SVC-012", "ipv4", "pass"),
    )
    assert only.rule is None
    assert only.cause == "unknown: no rule names a cause of SVC-012 [ipv6]"
    assert only.evidence == ("SVC-012 [ipv6]: a client was answered by two backends",)
    assert "forwarding-off (IPv6): CFG-010 [ipv6] passes" in only.ruled_out
    assert all("CFG-010" not in line for line in only.not_looked_at)
    assert any("CFG-015 not run" in line for line in only.not_looked_at)
    assert only.asymmetry == ("IPv6 only: over IPv4 SVC-012 passes",)
    text = "\n".join(diagnosis_lines([only]))
    assert "it is not:" in text
    assert "may be:" in text


def test_what_is_inconclusive_is_no_symptom_and_may_be_a_consequence() -> None:
    undecided = result("PKT-018", "ipv6", "inconclusive", "control failed")
    assert diagnosed(undecided) == []
    (only,) = diagnosed(undecided, result("CFG-010", "ipv6", "fail", OFF))
    assert [c.id for c in only.consequences] == ["PKT-018", "CFG-010"]
    (unknown,) = diagnosed(undecided, result("SVC-012", "ipv6", "fail", "two backends"))
    assert [c.id for c in unknown.consequences] == ["SVC-012"]


def test_a_run_without_facts_is_diagnosed_all_the_same() -> None:
    results = run(result("CFG-010", "ipv6", "fail", OFF)).model_copy(update={"cluster": None})
    (only,) = diagnose(results)
    assert only.rule == "forwarding-off"


def test_results_of_an_earlier_version_have_findings_in_their_reason() -> None:
    old = result("CFG-010", "ipv6").model_copy(update={"reason": f"1 finding\n- {OFF}"})
    (only,) = diagnosed(old)
    assert only.rule == "forwarding-off"


def test_names_that_begin_alike_are_told_apart() -> None:
    assert names("pod on worker2 -> x", "worker2")
    assert not names("pod on worker2 -> x", "worker")
    assert names("session to worker (fd00::1)", "worker")


def test_equal_results_give_equal_diagnoses() -> None:
    results = run(
        result("CFG-010", "ipv6", "fail", OFF),
        result("CONN-002", "ipv4", "fail", cells=pod_cells([("n1", "n2")])),
        info=cluster(),
    )
    assert diagnose(results) == diagnose(results)
