"""EGR-005, EGR-006, EGR-010: judgements of whom a target saw and what a client chose."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from helpers.egress import Departure
from helpers.eyeballs import Choice, choice_finding
from helpers.model import Family, IPAddress
from helpers.own_pools import RANGES, OwnPool, pool_manifest
from helpers.pool_nat import Hidden, Seen

POD, NODE, TARGET = map(ip_address, ("2001:2:0:77::5", "fd00:10:243::3", "2001:db8::a"))


def finding(wanted: Hidden, *seen: IPAddress, answered: bool = True) -> str | None:
    one = Departure("pod-1", "worker", POD, (NODE,), frozenset(seen), answered)
    return Seen(one, TARGET, wanted).finding


def test_what_is_promised_gives_no_finding() -> None:
    assert finding(Hidden.BEHIND_NODE, NODE) is None
    assert finding(Hidden.NOT, POD) is None


@pytest.mark.parametrize(
    ("wanted", "seen", "said"),
    [
        (Hidden.BEHIND_NODE, POD, f"which saw {POD} instead of an address of its node ({NODE})"),
        (Hidden.NOT, NODE, f"which saw {NODE} instead of the pod's own address ({POD})"),
    ],
    ids=["not hidden", "hidden"],
)
def test_another_source_is_found(wanted: Hidden, seen: IPAddress, said: str) -> None:
    assert said in str(finding(wanted, seen))


def test_nothing_and_no_way_back_are_findings_too() -> None:
    assert "nothing arrives" in str(finding(Hidden.NOT))
    assert "does not reach the pod" in str(finding(Hidden.NOT, POD, answered=False))


def test_a_pool_of_a_test_is_for_those_who_ask_for_it() -> None:
    cidr = RANGES[Family.IPV6]
    spec = pool_manifest("p", cidr, nat_outgoing=True, disabled=False)["spec"]
    assert (spec["assignmentMode"], spec["natOutgoing"], spec["blockSize"]) == ("Manual", True, 122)
    assert OwnPool("p", cidr).annotation == {"cni.projectcalico.org/ipv6pools": '["p"]'}
    four = OwnPool("p", ip_network("198.18.77.0/24"))
    assert four.annotation == {"cni.projectcalico.org/ipv4pools": '["p"]'}


def test_a_client_must_come_through_over_the_family_that_lives() -> None:
    over6 = Choice(ip_address("fd00:10:243::fa"), 12.0, None)
    assert choice_finding(over6, "x.", Family.IPV6) == []
    (finding,) = choice_finding(Choice(None, None, "TimeoutError: "), "x.", Family.IPV6)
    assert "with IPv4 dead a Happy Eyeballs client does not reach x. over IPv6" in finding
    (finding,) = choice_finding(over6, "x.", Family.IPV4)
    assert "with IPv6 dead" in finding
