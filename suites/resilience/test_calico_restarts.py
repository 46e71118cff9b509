"""Traffic while Calico restarts: RES-001, RES-002, RES-003."""

from __future__ import annotations

import pytest

from helpers.evidence import Evidence
from helpers.model import Family
from helpers.resilience import calico_roll
from helpers.resilience.traffic import Setting, require_pods

# A roll restarts one node after the other; another release starts slowly.
pytestmark = [pytest.mark.timeout(900), pytest.mark.long]


def test_res_001_connections_survive_a_roll_of_calico(
    family: Family, setting: Setting, evidence: Evidence
) -> None:
    """No established connection ends, and none stalls, while all calico-nodes restart.

    Given: idle and busy TCP connections, UDP and ICMP flows of both families: within a node,
        between nodes, to a clusterIP, to a NodePort from outside, out of the cluster and into it
    Then: during a rolling restart of calico-node none is reset and none stalls or gaps for more
        than 5 s (suites/flow_limits.yaml), and no pod has other addresses afterwards. With
        --calico-roll the roll is an upgrade, and every calico-node runs that release then
    Source: Calico felix/design/dataplane.md, restart and resync
    """
    require_pods(setting.agents, family)
    seen = calico_roll.rolled("RES-001", setting)
    seen.decide(family, evidence)


def test_res_002_new_pods_and_connections_succeed_during_a_roll(
    family: Family, setting: Setting, evidence: Evidence
) -> None:
    """Pods that are made during the same roll get the family, and new connections succeed.

    Given: the roll of RES-001; meanwhile a pod is made on one node after the other, and new
        connections and DNS questions go on
    Then: within 60 s of its creation every new pod has an address of the family and answers over
        it, and no flow of new connections has a gap of more than 5 s
    Source: own requirement
    """
    require_pods(setting.agents, family)
    seen = calico_roll.rolled("RES-002", setting)
    seen.decide(family, evidence)


def test_res_003_a_killed_calico_node_interrupts_nothing(
    family: Family, setting: Setting, evidence: Evidence
) -> None:
    """Traffic goes on while one calico-node is killed, and while its pod is deleted.

    Given: the flows of RES-001; on one worker Felix, BIRD and all other programs of calico-node
        get SIGKILL, and once BGP is back the pod is deleted without grace
    Then: no flow loses more than suites/flow_limits.yaml allows; routes may flap (events say so)
    Source: Calico node/tests/k8st simple_test.go; graceful restart, RFC 4724
    """
    require_pods(setting.agents, family)
    seen = calico_roll.killed(setting, list(setting.agents.pods)[-1])
    seen.decide(family, evidence)
