"""kube-proxy as declared: CFG-007, CFG-008."""

from __future__ import annotations

from clusters.api import Cluster
from helpers import netstate, service_proxy_config
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.model import Family
from helpers.parallel import on_each


def test_cfg_007_kube_proxy_runs_in_the_declared_mode(
    cluster: Cluster, facts: Facts, agents: AgentPool
) -> None:
    """On every node kube-proxy runs in the mode that the profile declares, without a fallback.

    Given: the mode of each node's group, what its kube-proxy answers on :10249/proxyMode, and
        what is in its kernel
    Then: the answer is the declared mode, and the kernel holds what that mode makes: interface
        kube-ipvs0, tables ip and ip6 kube-proxy in nftables, or KUBE-SERVICES in iptables and
        ip6tables
    Source: announcement of Calico 3.11 (kube-proxy in IPVS mode); kubernetes#111806
    """
    declared = service_proxy_config.declared_modes(cluster.spec, facts.nodes)
    found = service_proxy_config.mode_findings(declared, facts.proxy_modes)
    states, filters = netstate.of_nodes(agents), netstate.netfilter_of_nodes(agents)
    for node, mode in facts.proxy_modes.items():
        found += service_proxy_config.kernel_findings(node, mode, states[node], filters[node])
    demand_none(found)


def test_cfg_008_kube_proxy_knows_the_pods_of_the_family(
    facts: Facts, agents: AgentPool, family: Family
) -> None:
    """kube-proxy on every node can tell pods of the family from strangers.

    Given: the configuration that each kube-proxy runs with (:10249/configz)
    Then: its cluster CIDRs cover the cluster's pod CIDR of the family, or it tells local traffic
        by something else than addresses
    Source: Kubernetes docs "IPv4/IPv6 dual-stack"; kubernetes/website#19350 (the flag is
        --cluster-cidr)
    """
    configs = on_each(
        agents.nodes,
        lambda node: service_proxy_config.read_config(agents.nodes[node], facts.kube_proxy),
    )
    cluster_cidr = facts.cluster_cidr(family)
    found = [
        line
        for node, config in configs.items()
        for line in service_proxy_config.cluster_cidr_findings(
            node,
            family,
            service_proxy_config.LocalDetection.from_config(config),
            [cluster_cidr] if cluster_cidr else [],
        )
    ]
    demand_none(found)
