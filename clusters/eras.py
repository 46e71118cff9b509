"""What a Kubernetes minor release wants said aloud for dual stack, as one table.

Sources: KEP-563 and its pull requests. Gate IPv6DualStack: alpha 1.16, redesigned 1.20, on by
default 1.21, locked on 1.23, gone from the components 1.25 (#109435; naming it stops them), gone
from kubeadm 1.24 (#106648). Node masks per family: 1.17 (#79993). kube-proxy's flag has always
been ``--cluster-cidr``; the plural of the first documentation never existed (website#19350).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clusters.spec import ClusterSpec, Version
from helpers.model import FAMILIES

GATE = "IPv6DualStack"


class GateRule(StrEnum):
    """What the gate must be in flags and configuration files of the components (CFG-002)."""

    TRUE = "true"
    NOT_FALSE = "not false"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Era:
    """A span of minor releases that are configured alike.

    Attributes:
        first: first minor release of the span.
        gate: rule for the components' gate; it is written wherever the rule allows it.
        kubeadm_gate: whether kubeadm has to be told too.
        mask_per_family: False when one flag sets the node mask of both families.
        pairs: whether CIDR pairs are written as flags. From 1.25 on kubeadm's podSubnet and
            serviceSubnet say everything, and a second place could only contradict them.
    """

    first: int
    gate: GateRule
    kubeadm_gate: bool
    mask_per_family: bool
    pairs: bool


ERAS = (
    Era(16, GateRule.TRUE, kubeadm_gate=True, mask_per_family=False, pairs=True),
    Era(17, GateRule.TRUE, kubeadm_gate=True, mask_per_family=True, pairs=True),
    Era(21, GateRule.NOT_FALSE, kubeadm_gate=False, mask_per_family=True, pairs=True),
    Era(25, GateRule.ABSENT, kubeadm_gate=False, mask_per_family=True, pairs=False),
)


def era_of(kubernetes: Version) -> Era:
    """The era of a release.

    Raises:
        ValueError: it is older than dual stack.
    """
    if not kubernetes.at_least(1, 16):
        raise ValueError(f"Kubernetes {kubernetes} has no dual stack; 1.16.0 was the first")
    return [era for era in ERAS if kubernetes.at_least(1, era.first)][-1]


def feature_gates(kubernetes: Version) -> dict[str, bool]:
    """Gates for apiserver, controller manager, scheduler, kubelet and kube-proxy."""
    return {} if era_of(kubernetes).gate is GateRule.ABSENT else {GATE: True}


def kubeadm_feature_gates(kubernetes: Version) -> dict[str, bool]:
    """Gates of kubeadm itself, which checked its own configuration with the same name."""
    return {GATE: True} if era_of(kubernetes).kubeadm_gate else {}


def apiserver_args(spec: ClusterSpec) -> dict[str, str]:
    if not era_of(spec.kubernetes).pairs:
        return {}
    return {"service-cluster-ip-range": spec.service_cidrs.pair(spec.families)}


def controller_manager_args(spec: ClusterSpec) -> dict[str, str]:
    """Flags of kube-controller-manager.

    The node masks are written in every era: they are a decision of the profile that kubeadm has
    no field for.
    """
    era = era_of(spec.kubernetes)
    args: dict[str, str] = {}
    if era.pairs:
        args["cluster-cidr"] = spec.pod_cidrs.pair(spec.families)
        args["service-cluster-ip-range"] = spec.service_cidrs.pair(spec.families)
    if era.mask_per_family:
        for family in FAMILIES:
            args[f"node-cidr-mask-size-{family}"] = str(spec.node_cidr_mask.of(family))
    else:  # the profile's check made both masks equal
        args["node-cidr-mask-size"] = str(spec.node_cidr_mask.of(spec.primary))
    return args


def kube_proxy_config(spec: ClusterSpec) -> dict[str, str]:
    """Fields of KubeProxyConfiguration; ``clusterCIDR`` is ``--cluster-cidr`` with a pair."""
    if not era_of(spec.kubernetes).pairs:
        return {}
    return {"clusterCIDR": spec.pod_cidrs.pair(spec.families)}
