"""Judgements about names, with the faults that must turn them red."""

from __future__ import annotations

import pytest

from helpers.model import Protocol
from helpers.names import NODATA, Answer, Question, Resolver, holding, name_findings
from helpers.probes import DnsAnswer, Outcome
from helpers.verdicts import Inconclusive

NAME = "web.ns.svc.cluster.local."
AAAA = Question("pod on worker", NAME, "AAAA")


def test_resolv_conf() -> None:
    text = (
        "search ns.svc.example.org svc.example.org example.org\n"
        "nameserver fd00:10:96::a\nnameserver 10.96.0.10\noptions ndots:5\n"
    )
    resolver = Resolver.parse(text)
    assert [str(server) for server in resolver.servers] == ["fd00:10:96::a", "10.96.0.10"]
    assert resolver.service("ns", "web") == "web.ns.svc.example.org."


def test_a_pod_without_the_cluster_domain() -> None:
    with pytest.raises(Inconclusive, match="search list"):
        _ = Resolver.parse("nameserver 10.0.0.2\nsearch corp.example\n").domain


def dns(outcome: Outcome, rcode: str | None, *values: str, error: str | None = None) -> DnsAnswer:
    return DnsAnswer(NAME, "AAAA", outcome, rcode, values=values, error=error)


def test_spelling_does_not_matter() -> None:
    told = Answer.of(dns(Outcome.REACHED, "NOERROR", "FD00:10:96:0::5"))
    assert told == holding(["fd00:10:96::5"])
    assert Answer.of(dns(Outcome.REACHED, "NOERROR", "Web.Ns.")) == holding(["web.ns."])


def test_a_question_that_was_not_asked_is_no_answer() -> None:
    with pytest.raises(Inconclusive):
        Answer.of(dns(Outcome.INCONCLUSIVE, None, error="agent lost"))


def test_as_promised() -> None:
    wanted = {AAAA: holding(["fd00:10:96::5"])}
    assert name_findings(wanted, dict(wanted)) == []


def test_a_server_that_suppresses_aaaa() -> None:
    """F23: CoreDNS template plugin, AAAA . rcode NXDOMAIN."""
    (found,) = name_findings({AAAA: holding(["fd00:10:96::5"])}, {AAAA: Answer("NXDOMAIN")})
    assert found == (
        f"AAAA {NAME} (over udp, from pod on worker) is answered NXDOMAIN, expected "
        "fd00:10:96::5: AAAA is suppressed or the name unknown, look at the Corefile"
    )


def test_nxdomain_where_the_other_family_exists() -> None:
    (found,) = name_findings({AAAA: NODATA}, {AAAA: Answer("NXDOMAIN")})
    assert "is answered NXDOMAIN, expected NODATA: the name exists in the other family" in found


def test_too_many_records() -> None:
    told = holding(["fd00:10:244::1", "fd00:10:244::2"])
    (found,) = name_findings({AAAA: holding(["fd00:10:244::1"])}, {AAAA: told})
    assert "is answered fd00:10:244::1, fd00:10:244::2, expected fd00:10:244::1" in found


def test_a_server_that_does_not_answer() -> None:
    told = Answer.of(dns(Outcome.TIMEOUT, None, error="timed out"))
    (found,) = name_findings({AAAA: NODATA}, {AAAA: told})
    assert "no answer (timeout: timed out)" in found


def test_transports_are_different_questions() -> None:
    tcp = Question("pod on worker", NAME, "AAAA", Protocol.TCP)
    wanted = {AAAA: NODATA, tcp: NODATA}
    (found,) = name_findings(wanted, {AAAA: NODATA, tcp: Answer("SERVFAIL")})
    assert "over tcp" in found
