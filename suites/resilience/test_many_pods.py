"""Addresses when they are few, and when pods come and go: RES-006, RES-007."""

from __future__ import annotations

import pytest

from helpers.evidence import Evidence
from helpers.findings import demand_none
from helpers.model import Family
from helpers.resilience.exhaustion import exhaustion, exhaustion_findings
from helpers.resilience.many_pods import SHARE, churn_findings, churned, percentile
from helpers.resilience.traffic import Setting

pytestmark = [pytest.mark.timeout(420), pytest.mark.long]


def test_res_006_churn_leaves_nothing_behind(setting: Setting, evidence: Evidence) -> None:
    """Rounds of pods get one address of each family, never one twice, and give all of them back.

    Given: three rounds of four new pods on every node, each deleted before the next
    Then: all pods are dual-stack, no two pods of the cluster share an address, 95 % have their
        network 15 s after their creation began, and 30 s after deletion IPAM holds none of
        their addresses
    Source: Calico design/ipam/ipam-cni.md
    """
    rounds = churned(setting)
    seconds = [value for each in rounds for value in each.seconds]
    if seconds:
        told = {"pods": len(seconds), "p95": percentile(seconds, SHARE), "longest": max(seconds)}
        evidence.attach("creation.json", told, always=True)
    demand_none(churn_findings(rounds))


def test_res_007_an_exhausted_pool_fails_closed(family: Family, setting: Setting) -> None:
    """A pod that cannot have this family does not run with the other one, and says why.

    Given: a pool of four addresses of this family that four pods have used up, and a fifth pod
    Then: the fifth does not run, an event names the family, and IPAM keeps no address of the
        other family for it; once one of the four is deleted it runs with both within 60 s
    Source: Calico cni-plugin ipam_plugin.go; IPPool blockSize 116-128 for IPv6
    """
    demand_none(exhaustion_findings(exhaustion(setting, family)))
