"""Versions, and what they are called together: CFG-001, CFG-002, CFG-018."""

from __future__ import annotations

from helpers import calico_config, netstate, platforms
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube


def test_cfg_001_api_server_has_dual_stack(kube: Kube) -> None:
    """The API server is Kubernetes 1.16 or later, with the Service API of its era.

    Given: the answer to GET /version, and the Service default/kubernetes
    Then: the minor version is at least 16, and from 20 on Services have ipFamilyPolicy,
        ipFamilies and clusterIPs (1.16 to 1.19 is the legacy API: one family per Service)
    Source: KEP-563; Kubernetes docs "IPv4/IPv6 dual-stack"
    """
    service = kube.get("v1", "Service", "kubernetes", "default")
    found = platforms.api_findings(kube.version(), service)
    demand_none(found)


def test_cfg_002_dual_stack_gate_fits_the_release(facts: Facts) -> None:
    """The feature gate IPv6DualStack is everywhere what the release wants it to be.

    Given: flags of API server and controller manager, configuration of every kubelet, of
        kube-proxy and of kubeadm
    Then: the gate is true in 1.16 to 1.20, not false in 1.21 to 1.24, and named nowhere from
        1.25 on, where it would stop the component
    Source: KEP-563; kubernetes#109435, kubernetes#106648
    """
    found = platforms.gate_findings(facts.minor, platforms.named_gates(facts))
    demand_none(found)


def test_cfg_018_platform_combination_is_supported(
    kube: Kube, facts: Facts, agents: AgentPool
) -> None:
    """Kubernetes, Calico's dataplane, the service proxy and each kernel support each other.

    Given: releases, kernels, proxy modes, Felix's settings, the calico-node pod of each node and
        what is programmed into netfilter there
    Then: no combination that is known not to work, both families in every node's netfilter, one
        kind of datastore, and every calico-node Ready (which includes that it reaches it)
    Source: Calico felix/nftables/match_builder.go; Calico docs "nftables data plane", "eBPF"
    """
    platform = platforms.Platform.of(
        facts,
        calico_config.calico_nodes(kube),
        netstate.of_nodes(agents),
        netstate.netfilter_of_nodes(agents),
    )
    found = platforms.combination_findings(platform)
    demand_none(found)
