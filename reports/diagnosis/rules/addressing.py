"""Causes why pods do not get, or do not release, the addresses that they should."""

from __future__ import annotations

from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Extra, Fact, Finding, Missing, Seen

RESTART_CALICO: Final = "kubectl -n kube-system rollout restart daemonset/calico-node"

NO_POOL: Final = (
    "No enabled Calico {ip} IPPool selects node {node} ({reason}): CNI ADD fails, new pods stay "
    "ContainerCreating; running pods keep their {ip}"
)
NO_POOL_SEEN: Final = (
    r"No enabled Calico FAMILY IPPool selects node (?P<node>\S+) \((?P<reason>.*?)\): CNI"
)


def disabled_pools(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """IPPools of the family that are disabled, from the run's facts."""
    if case.cluster is None or not case.cluster.pools:
        return Missing("the pools were not observed", known=False)
    names = tuple(
        pool.name for pool in case.cluster.pools if pool.disabled and Family.of(pool.cidr) is family
    )
    if not names:
        return Missing(f"no {family.kubernetes} IPPool is disabled")
    return Seen(tuple(f"IPPool {name} is disabled" for name in names), values={"pool": names})


def nothing_late(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """That no address was released after its time: then CNI DEL works, and is slow."""
    late = [s for s in case.findings("PODIP-011", family) if "was released after" in s]
    return Missing(f"{len(late)} addresses were released, late") if late else Seen()


RULES: Final = (
    Rule(
        name="cni-does-not-ask",
        faults=("F01",),
        depth=Depth.SETTING,
        cause="Calico CNI config on node {node} does not request {ip} (ipam.assign_{family} is "
        'not "true"): new pods get {other} only',
        fix=(
            "kubectl -n kube-system edit configmap calico-config   # cni_network_config, ipam: "
            '"assign_{family}": "true"',
            RESTART_CALICO,
            "recreate the pods that came up without {ip}",
        ),
        signs=(
            Finding(
                ("CFG-011",),
                r"Calico CNI config on node (?P<node>\S+) does not request FAMILY",
                "Calico CNI config on node worker does not request IPv6 (ipam.assign_ipv6 is "
                'absent, must be the string "true"): new pods get IPv4 only',
            ),
        ),
        explains=ids(
            "CFG-011 PODIP-002 PODIP-003 PODIP-007 PODIP-008 PODIP-012 PODIP-013 PODIP-014 "
            "RES-002 RES-006"
        ),
    ),
    Rule(
        name="pool-disabled",
        faults=("F02", "CFG-014/ipv4-pool"),
        depth=Depth.SETTING,
        cause=NO_POOL,
        fix=('kubectl patch ippool {pool} --type merge -p \'{{"spec":{{"disabled":false}}}}\'',),
        signs=(
            Finding(
                ("CFG-014",),
                NO_POOL_SEEN,
                "No enabled Calico IPv6 IPPool selects node worker (default-ipv6-ippool is "
                "disabled): CNI ADD fails, new pods stay ContainerCreating",
            ),
            Fact("an IPPool of the family is disabled", disabled_pools),
        ),
        across=True,
        explains=ids(
            "CFG-014 CFG-015 PODIP-002 PODIP-003 PODIP-007 PODIP-008 PODIP-011 PODIP-012 "
            "PODIP-013 PODIP-014 RES-002 RES-006 RES-007 RTE-003"
        ),
    ),
    Rule(
        name="pool-does-not-select-node",
        faults=(),
        depth=Depth.SETTING,
        cause=NO_POOL,
        fix=(
            "kubectl get ippools -o yaml   # one enabled {ip} pool needs nodeSelector all(), "
            "assignmentMode Automatic, and Workload in allowedUses",
        ),
        signs=(
            Finding(
                ("CFG-014",),
                NO_POOL_SEEN,
                "No enabled Calico IPv6 IPPool selects node worker (there is none): CNI ADD fails",
            ),
        ),
        across=True,
        explains=ids(
            "CFG-014 CFG-015 PODIP-002 PODIP-003 PODIP-007 PODIP-008 PODIP-011 PODIP-012 "
            "PODIP-013 PODIP-014 RES-002 RES-006 RES-007 RTE-003"
        ),
    ),
    Rule(
        name="cni-del-does-not-release",
        faults=("R1",),
        depth=Depth.STATE,
        cause="{address_count} {ip} allocations of deleted pods remain on {node}: CNI DEL does not "
        "release",
        fix=(
            "journalctl -u containerd on {node}   # what calico-ipam says at DEL; its binary is "
            "/opt/cni/bin/calico-ipam, install it again by restarting calico-node there",
            "calicoctl ipam check --show-problem-ips; calicoctl ipam release --ip={address_first}",
        ),
        signs=(
            Finding(
                ("PODIP-011",),
                r"(?P<address>[0-9a-f.:]+) of deleted pod \S+ on (?P<node>\S+) is still allocated",
                "fd00:10:244::5 of deleted pod ns/pod-1 on worker is still allocated after 30 s: "
                "CNI DEL does not release on worker",
            ),
            Fact("none of them was released late", nothing_late),
        ),
        across=True,
        explains=ids("PODIP-011 PODIP-010 PODIP-014 RES-006 RES-007"),
    ),
    Rule(
        name="node-order-differs",
        faults=("R4",),
        depth=Depth.SETTING,
        cause="Pods on {node} report {other} first while the cluster is {ip}-primary: its kubelet "
        "registers {addresses}",
        fix=(
            "kubelet on {node}: --node-ip with the {ip} address first (kubeadm: "
            "nodeRegistration.kubeletExtraArgs), then restart it and recreate the pods there",
        ),
        signs=(
            Finding(
                ("CFG-005",),
                r"node (?P<node>\S+) lists its InternalIPs as (?P<addresses>.*?), but the cluster "
                r"is FAMILY-primary",
                "node worker lists its InternalIPs as fd00:10:243::3, 10.243.0.3, but the cluster "
                "is IPv6-primary: correct the order of its kubelet's --node-ip",
            ),
            Extra(
                Finding(
                    ("PODIP-003",),
                    r"lists podIPs (?P<podips>.*?), expected",
                    "pod a/b lists podIPs fd00::1, 10.0.0.1, expected IPv4 first",
                )
            ),
        ),
        across=True,
        explains=ids("CFG-005 PODIP-003 PODIP-009 PODIP-008"),
    ),
)
