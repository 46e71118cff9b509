"""Causes in what components were started with: address ranges and feature combinations."""

from __future__ import annotations

from typing import Final

from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Finding

RULES: Final = (
    Rule(
        name="service-range-missing",
        faults=("F08",),
        depth=Depth.SETTING,
        cause="apiserver has one service range ({ranges}): {ip} Services cannot be created "
        "(partially dual-stack cluster)",
        fix=(
            "kubeadm: networking.serviceSubnet: one CIDR of each family, and with it "
            "--service-cluster-ip-range of kube-apiserver and kube-controller-manager",
            "Kubernetes 1.33 and later: kubectl get servicecidr kubernetes must list both; its "
            "ranges cannot be changed, a second ServiceCIDR of the missing family adds one",
        ),
        signs=(
            Finding(
                ("CFG-004",),
                r"has 0 FAMILY ranges \((?P<ranges>[^)]*)\)",
                "kube-apiserver --service-cluster-ip-range has 0 IPv6 ranges (10.96.0.0/16), must "
                "be exactly 1: IPv6 Services cannot be created",
            ),
        ),
        across=True,
        explains=ids(
            "CFG-004 SVC-001 SVC-002 SVC-003 SVC-004 SVC-005 SVC-006 SVC-007 SVC-009 SVC-010 "
            "SVC-011 SVC-012 SVC-014 SVC-015 SVC-016 SVC-017 SVC-018 EGR-009 NPOL-011"
        ),
    ),
    Rule(
        name="controller-cidr-missing",
        faults=("F09",),
        depth=Depth.SETTING,
        cause="kube-controller-manager allocates no {ip} podCIDRs (--cluster-cidr={cidrs}); Calico "
        "IPAM still assigns both families, so traffic tests pass",
        fix=(
            "/etc/kubernetes/manifests/kube-controller-manager.yaml on each control plane: "
            "--cluster-cidr=V4CIDR,V6CIDR",
            "nodes that joined before keep what they have: drain, delete and join them again",
        ),
        signs=(
            Finding(
                ("CFG-003",),
                r"kube-controller-manager has 0 FAMILY cluster CIDRs "
                r"\(--cluster-cidr=(?P<cidrs>.*?)\), must",
                "kube-controller-manager has 0 IPv6 cluster CIDRs (--cluster-cidr=10.244.0.0/16), "
                "must be exactly 1",
            ),
        ),
        explains=ids("CFG-003 CFG-006"),
    ),
    Rule(
        name="pool-outside-cluster-cidr",
        faults=("F03",),
        depth=Depth.SETTING,
        cause="{ip} IPPool {pool} {cidr} is not the cluster {ip} CIDR {cluster}{why}; kube-proxy "
        "treats these pods as off-cluster and SNATs them",
        fix=(
            "set CALICO_IPV{version}POOL_CIDR={cluster} on calico-node, so that it is not made up "
            "again",
            "make an {ip} IPPool with cidr {cluster}, disable {pool}, recreate the pods, delete "
            "{pool} (Calico docs: Migrate from one IP pool to another)",
        ),
        signs=(
            Finding(
                ("CFG-015",),
                r"FAMILY IPPool (?P<pool>\S+) (?P<cidr>\S+) is not the cluster's FAMILY CIDR "
                r"(?P<cluster>[0-9a-f.:]+/\d+)(?P<why> \([^)]*\))?",
                "IPv6 IPPool default-ipv6-ippool fd12:3456:789a::/48 is not the cluster's IPv6 "
                "CIDR fd00:10:244::/56 (a random ULA /48 means CALICO_IPV6POOL_CIDR was unset and "
                "no kubeadm-config was found); kube-proxy treats these pods as off-cluster",
            ),
        ),
        explains=ids(
            "CFG-015 CFG-017 PODIP-004 PODIP-010 PRX-005 NPOL-011 SVC-011 SVC-016 SVC-012 RTE-003"
        ),
    ),
    Rule(
        name="nftables-dataplane-with-ipvs",
        faults=("R3",),
        depth=Depth.SETTING,
        cause="Calico nftables dataplane cannot run with kube-proxy ipvs on {node}: calico-node "
        'crash-loops with "IPVS not supported in nftables mode"',
        fix=(
            "kubectl patch felixconfiguration default --type merge "
            '-p \'{{"spec":{{"nftablesMode":"Disabled"}}}}\'',
            "or run kube-proxy in nftables mode and remove what ipvs left: kube-proxy --cleanup",
        ),
        signs=(
            Finding(
                ("CFG-018",),
                r"Calico's nftables dataplane cannot run beside kube-proxy in ipvs mode: on "
                r"(?P<node>\S+)",
                "Calico's nftables dataplane cannot run beside kube-proxy in ipvs mode: on worker "
                "nftablesMode Enabled (FelixConfiguration default) meets kube-proxy in ipvs mode",
            ),
        ),
        across=True,
        explains=ids("CFG-018 CFG-013 RTE-001 RES-001 PODIP-002 NPOL-001 NPOL-002"),
    ),
)
