"""A node that is restarted: RES-005."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.evidence import Evidence
from helpers.model import Family
from helpers.resilience.reboot import rebooted
from helpers.resilience.traffic import Setting, require_pods

pytestmark = [pytest.mark.timeout(420), pytest.mark.long]


def test_res_005_a_restarted_node_comes_back_with_both_families(
    family: Family,
    setting: Setting,
    restart_node: Callable[[str], None],
    evidence: Evidence,
) -> None:
    """A restarted node is back with addresses, pods, routes and Services of the family in time.

    Given: one worker whose container is restarted, and flows between the other nodes
    Then: within 180 s it is Ready with the addresses that it had, its pods have an address of the
        family and answer a pod on another node, BIRD has its sessions, and a NodePort on it
        answers; the flows lose no more than suites/flow_limits.yaml allows
    Source: Calico 3.11 announcement (IP6=autodetect)
    """
    if len(setting.facts.nodes) < 3:
        pytest.skip("the cluster has fewer than three nodes: nobody is left to watch two of them")
    require_pods(setting.agents, family)
    worker = [node.name for node in setting.facts.nodes if not node.control_plane][-1]
    rebooted(setting, worker, restart_node).decide(family, evidence)
