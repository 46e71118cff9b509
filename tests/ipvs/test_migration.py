"""PRX-009: what a change of mode must leave, and what it must not."""

from __future__ import annotations

from typing import Any

from helpers.ipvs.migration import Leg, migration_findings
from helpers.model import Family

V4, V6 = Family.IPV4, Family.IPV6


def flow(kind: str, family: str, *, still: bool = False) -> dict[str, Any]:
    text = f"{kind} {family} clusterIP: 9 of 90 lost"
    return {"kind": kind, "family": family, "still": still, "text": text}


KEPT = "ipset KUBE-6-CLUSTER-IP"  # kube-proxy is known to leave it


def leg(*flows: dict[str, Any], answered: bool = True, **left: list[str]) -> Leg:
    return Leg("nftables", answered, flows, {"ipv4": [], "ipv6": [KEPT], **left})


def test_a_clean_change() -> None:
    cut = flow("tcp", "ipv6", still=True)  # an open connection may end
    assert migration_findings("w", [leg(cut, flow("connect", "ipv6"))], V6) == []


def test_what_is_left_is_told_for_its_family() -> None:
    legs = [leg(ipv6=[KEPT, "ipset KUBE-6-OTHER", "interface kube-ipvs0"])]
    assert migration_findings("w", legs, V4) == []
    (text,) = migration_findings("w", legs, V6)
    assert text.startswith(
        "w runs nftables now and still has ipset KUBE-6-OTHER, interface kube-ipvs0"
    )


def test_a_kube_proxy_that_does_better_is_noticed() -> None:
    (text,) = migration_findings("w", [leg(ipv6=[])], V6)
    assert "which it was known to leave" in text


def test_new_flows_that_stay_lost() -> None:
    legs = [leg(flow("connect", "ipv6", still=True), flow("dns", "ipv4"))]
    assert migration_findings("w", legs, V4) == []
    (text,) = migration_findings("w", legs, V6)
    assert text == (
        "after the change to nftables new flows stay lost: connect ipv6 clusterIP: 9 of 90 lost"
    )


def test_a_kube_proxy_that_does_not_come() -> None:
    (text,) = migration_findings("w", [leg(answered=False)], V4)
    assert "did not run in nftables mode in time" in text


def test_legs_are_kept_as_data() -> None:
    one = leg(flow("connect", "ipv6"), ipv4=["x"])
    assert Leg.from_json(one.to_json()) == one
