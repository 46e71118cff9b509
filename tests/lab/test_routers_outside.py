"""Routers beyond the nodes that say a packet was too big: heard by the pod, or not (EGR-008)."""

from __future__ import annotations

import pytest

from helpers.egress_mtu import Told, ask_router
from helpers.model import FAMILIES, Family
from tests.lab import faults, nft
from tests.lab.topology import Lab, host_addresses

TOO_BIG = {Family.IPV4: 3, Family.IPV6: 2}
MTU = 1400


def asked(lab: Lab, family: Family) -> Told:
    """p2 is the outside: it answers what p1 sent as a router in front of a smaller link does."""
    outside = host_addresses("p2").require(family)
    return ask_router(lab.p1, lab.p2, outside, outside, MTU)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pod_is_told_about_its_own_packet(lab: Lab, family: Family) -> None:
    told = asked(lab, family)
    assert len(told.quotes) == 1
    assert told.findings() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_translation_is_undone_in_the_error(lab: Lab, family: Family) -> None:
    """Behind its node the pod is told of its own packet, not of the translated one."""
    with faults.fault(lab.namespace("n1"), family, nft.masquerade(), chain=faults.SNAT):
        told = asked(lab, family)
    assert told.findings() == []
    assert told.quotes[0].source == host_addresses("p1").require(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_that_is_dropped_is_noticed(lab: Lab, family: Family) -> None:
    rule = [*nft.icmp(family, TOO_BIG[family]), *nft.drop()]
    with faults.fault(lab.namespace("n1"), family, rule):
        (told,) = asked(lab, family).findings()
    assert "a router outside answered that its packet" in told
    assert "path MTU discovery is blind" in told
    assert asked(lab, family).findings() == []
