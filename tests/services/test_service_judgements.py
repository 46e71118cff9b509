"""Judgements about refusals, policies, affinity and the like, with what must turn them red."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from helpers.kube import ApiError
from helpers.matrix import Cell, Matrix
from helpers.model import Family, Protocol
from helpers.probes import Observation, Outcome, Probe
from helpers.service_external import RANGES, drawn_addresses
from helpers.service_policies import (
    Locality,
    affinity_findings,
    preserved_source_findings,
    slow_refusals,
)
from helpers.service_records import default_findings
from helpers.service_refusals import (
    Answer,
    ask,
    impossible_families,
    impossible_second_family,
    refusal_finding,
)
from helpers.verdicts import Inconclusive
from helpers.workloads import ServiceView

V4, V6 = Family.IPV4, Family.IPV6
FREE = {V4: ip_address("10.96.0.99"), V6: ip_address("fd00:10:96::99")}
CLIENT = ip_address("2001:db8::9")
OK = Answer(None)


def service(*cluster_ips: str, policy: str = "RequireDualStack") -> ServiceView:
    families = [Family.of(address).kubernetes for address in cluster_ips]
    spec = {"clusterIPs": list(cluster_ips), "ipFamilies": families, "ipFamilyPolicy": policy}
    return ServiceView.from_api({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec})


CASES = impossible_families(service("10.96.0.1", "fd00:10:96::1"), FREE)


class TestRefusals:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.asked)
    def test_legal_and_illegal_differ_in_families_or_addresses_only(self, case: Any) -> None:
        assert case.legal != case.illegal
        same = {"ports", "type", "externalName"}
        for key in same:
            assert case.legal.get(key) == case.illegal.get(key)

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.asked)
    def test_each_answer(self, case: Any) -> None:
        refused = Answer(f"Service is invalid: {case.field}: Invalid value", 422)
        assert refusal_finding(case, OK, refused) is None
        accepted = refusal_finding(case, OK, OK)
        assert accepted is not None
        assert accepted.startswith(f"the API accepted {case.asked}; it must refuse it")
        other = refusal_finding(case, OK, Answer("exceeded quota", 403))
        assert other is not None
        assert f"but not for {case.field}: exceeded quota (status 403)" in other
        all_refused = refusal_finding(case, refused, refused)
        assert all_refused is not None
        assert "its refusals prove nothing" in all_refused

    def test_a_primary_address_is_named_by_either_field(self) -> None:
        (case,) = [c for c in CASES if "primary clusterIP" in c.asked]
        assert refusal_finding(case, OK, Answer("spec.clusterIP: field is immutable", 422)) is None

    def test_one_range(self) -> None:
        case = impossible_second_family(V6)
        assert case.illegal["ipFamilyPolicy"] == "RequireDualStack"
        assert case.legal["ipFamilies"] == ["IPv6"]

    def test_ask(self) -> None:
        def refuse(_: object) -> None:
            raise ApiError(422, "Invalid", "spec.ipFamilies: no")

        assert ask(lambda spec: spec, {}) == OK
        assert ask(refuse, {}).refused is not None


def observation(
    outcome: Outcome, *, peer: str | None = None, milliseconds: float = 1.0
) -> Observation:
    probe = Probe(Protocol.TCP, ip_address("fd00::3"), 30080)
    seen = ip_address(peer) if peer else None
    return Observation(probe, outcome, peer_seen=seen, milliseconds=milliseconds)


CELL = Cell("outside", "node a", V6, "tcp NodePort")
OTHER = Cell("outside", "node b", V6, "tcp NodePort")


class TestLocality:
    def locality(self, local: Outcome, remote: Outcome) -> Locality:
        return Locality(Matrix({CELL: local}), Matrix({OTHER: remote}), ())

    def test_local_answers_and_remote_does_not(self) -> None:
        assert self.locality(Outcome.REACHED, Outcome.TIMEOUT).holds()
        assert self.locality(Outcome.REACHED, Outcome.REFUSED).holds()
        assert not self.locality(Outcome.REACHED, Outcome.REACHED).holds()
        assert not self.locality(Outcome.TIMEOUT, Outcome.TIMEOUT).holds()  # control failed

    def test_silence_of_a_probe_that_did_not_run_proves_nothing(self) -> None:
        with pytest.raises(Inconclusive):
            self.locality(Outcome.REACHED, Outcome.INCONCLUSIVE).holds()

    def test_a_leak_is_told_with_its_cells(self) -> None:
        text = str(self.locality(Outcome.REACHED, Outcome.REACHED))
        assert "outside -> node b: reached, expected timeout" in text

    def test_source(self) -> None:
        nodes = {"a": (ip_address("fd00::3"),)}
        fine = [(CELL, observation(Outcome.REACHED, peer=str(CLIENT)))]
        assert preserved_source_findings(fine, CLIENT, nodes) == []
        masked = [(CELL, observation(Outcome.REACHED, peer="fd00::3"))]
        (text,) = preserved_source_findings(masked, CLIENT, nodes)
        assert "the backend saw fd00::3 (node a's), although externalTrafficPolicy" in text
        lost = [(CELL, observation(Outcome.TIMEOUT))]
        assert preserved_source_findings(lost, CLIENT, nodes) == []


class TestAffinity:
    KEY = ("pod on a", "tcp")

    def test_one_backend(self) -> None:
        assert affinity_findings({self.KEY: {"x"}}, {self.KEY: {"x", "y"}}) == []

    def test_two_backends(self) -> None:
        (text,) = affinity_findings({self.KEY: {"x", "y"}}, {self.KEY: {"x", "y"}})
        assert text.startswith("tcp from pod on a: served by x, y although sessionAffinity")

    def test_without_a_twin_that_spreads_nothing_is_proved(self) -> None:
        with pytest.raises(Inconclusive, match="tcp from pod on a"):
            affinity_findings({self.KEY: {"x"}}, {self.KEY: {"y"}})


def test_late_refusals() -> None:
    fast = (CELL, observation(Outcome.REFUSED, milliseconds=20))
    late = (OTHER, observation(Outcome.REFUSED, milliseconds=2010))
    (text,) = slow_refusals([fast, late])
    assert "to node b: refused after 2.0 s, not within 2 s" in text


def test_drawn_addresses_are_in_the_documentation_ranges() -> None:
    for _ in range(50):
        drawn = drawn_addresses()
        assert all(drawn[family] in RANGES[family] for family in drawn)
        assert set(drawn) == {V4, V6}


def test_the_apis_own_service() -> None:
    single = service("10.96.0.1", policy="SingleStack")
    assert default_findings(single, V4) == []
    (text,) = default_findings(single, V6)
    assert "the cluster is declared IPv6-primary" in text
    dual = service("10.96.0.1", "fd00:10:96::1", policy="PreferDualStack")
    assert len(default_findings(dual, V4)) == 2
