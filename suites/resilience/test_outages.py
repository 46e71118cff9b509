"""Traffic while kube-proxy restarts, a pool is disabled, or the API is away: RES-004, 008, 009."""

from __future__ import annotations

import pytest

from helpers.evidence import Evidence
from helpers.model import Family
from helpers.resilience import outages
from helpers.resilience.traffic import Setting, require_pods

pytestmark = [pytest.mark.timeout(420), pytest.mark.long]


def test_res_004_service_flows_survive_a_restart_of_kube_proxy(
    family: Family, setting: Setting, evidence: Evidence
) -> None:
    """Flows through Services, old and new, do not notice that every kube-proxy restarts.

    Given: flows of every kind, among them established and new connections to a clusterIP and to
        NodePorts from outside
    Then: during a rolling restart none loses more than suites/flow_limits.yaml allows; a Service
        made afterwards answers every client within 10 s, and the rules on every node equal the
        Services of the API within 60 s
    Source: own requirement; Kubernetes pkg/proxy (rules stay when kube-proxy ends)
    """
    require_pods(setting.agents, family)
    outages.proxies_restarted(setting).decide(family, evidence)


def test_res_008_a_disabled_pool_leaves_running_pods_alone(
    family: Family, setting: Setting, evidence: Evidence
) -> None:
    """Running pods keep their IPv6 addresses and connections when their pool is disabled.

    Given: flows of every kind over IPv6
    Then: while every IPv6 pool is disabled no pod loses its address, and no flow loses more than
        suites/flow_limits.yaml allows
    Source: Calico documentation, IPPool, disabled
    """
    require_pods(setting.agents, family)
    outages.pools_disabled(setting, family).decide(family, evidence)


def test_res_009_traffic_needs_no_api_server(
    family: Family, setting: Setting, evidence: Evidence
) -> None:
    """Pods, Services and their policy go on for a minute in which the API server does not answer.

    Given: flows of every kind
    Then: while every API server stands still for 60 s no flow loses more than
        suites/flow_limits.yaml allows
    Source: own requirement
    """
    require_pods(setting.agents, family)
    outages.api_frozen(setting).decide(family, evidence)
