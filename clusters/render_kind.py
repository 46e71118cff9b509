"""From ClusterSpec to the configuration that ``kind create cluster --config`` reads.

Pure functions: documents out, no engine, no file. kind decides node addresses (``--node-ip`` in
the order of the service pair) and everything that kubeadm needs beyond the patches here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from clusters import eras
from clusters.spec import ClusterSpec, NodeGroup, Role
from helpers.naming import PRODUCT

API_VERSION = "kind.x-k8s.io/v1alpha4"
GROUP_LABEL = f"{PRODUCT}/group"
PROXY_LABEL = f"{PRODUCT}/proxy-mode"
KERNEL_LABEL = f"{PRODUCT}/kernel"

API_CALL_WITHIN = "4m0s"  # kubeadm's limit for one call to the API server, a Go duration

# Where containerd's configuration has the option, by version of that file. kind applies a patch
# only to a file of the same version, so both can be given.
_OOM_TABLES = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}


def kind_config(
    spec: ClusterSpec,
    image: str,
    *,
    cgroup_v1: bool = False,
    restrict_oom_score_adj: bool = False,
) -> dict[str, Any]:
    """A kind v1alpha4 Cluster.

    Nodes with a kernel of their own are left out: they join when the cluster exists.

    Args:
        spec: a profile whose proxy modes are resolved.
        image: node image for all nodes.
        cgroup_v1: the host has cgroup v1, which kubelet refuses since 1.35 unless told.
        restrict_oom_score_adj: the engine may not lower OOM scores (no CAP_SYS_RESOURCE); only
            for node images that do not say so themselves, since patching restarts containerd.

    Raises:
        ValueError: a proxy mode is still ``auto``.
    """
    config: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": API_VERSION,
        "networking": {
            "ipFamily": "dual",
            "podSubnet": spec.pod_cidrs.pair(spec.families),
            "serviceSubnet": spec.service_cidrs.pair(spec.families),
            "disableDefaultCNI": True,
            "kubeProxyMode": spec.proxy_mode.value,
            # Search domains of the machine would leak into pods and change what names mean.
            "dnsSearch": [],
        },
        "nodes": [
            {"role": group.role.value, "image": image, "labels": node_labels(group)}
            for group in spec.host_groups
            for _ in range(group.count)
        ],
        "kubeadmConfigPatches": [_document(patch) for patch in _patches(spec, cgroup_v1=cgroup_v1)],
    }
    gates = eras.feature_gates(spec.kubernetes)
    if gates:
        config["featureGates"] = gates
    if restrict_oom_score_adj:
        config["containerdConfigPatches"] = [
            f'version = {version}\n[plugins."{table}"]\n  restrict_oom_score_adj = true\n'
            for version, table in _OOM_TABLES.items()
        ]
    return config


def kind_yaml(config: Mapping[str, Any]) -> str:
    """The text of a configuration, in the order it was written."""
    return _document(config)


def node_labels(group: NodeGroup) -> dict[str, str]:
    """Labels that tell the nodes of a group, its proxy mode and its kernel apart."""
    return {
        GROUP_LABEL: group.name,
        PROXY_LABEL: group.proxy_mode.value,
        KERNEL_LABEL: group.kernel.value,
    }


def node_names(spec: ClusterSpec, cluster: str) -> dict[str, NodeGroup]:
    """Node names as kind gives them (its MakeNodeNamer), in order, with each node's group."""
    counts = dict.fromkeys(Role, 0)
    names: dict[str, NodeGroup] = {}
    for group in spec.host_groups:
        for _ in range(group.count):
            counts[group.role] += 1
            number = counts[group.role]
            names[f"{cluster}-{group.role}{number if number > 1 else ''}"] = group
    return names


def kind_refusal(spec: ClusterSpec) -> str | None:
    """Why kind cannot create this cluster although it can be rendered; None when it can."""
    if not spec.kubernetes.at_least(1, 20):
        return (
            f"kind makes dual-stack nodes since Kubernetes 1.20 (kubelet takes a pair of addresses "
            f"since then), not with {spec.kubernetes}; e.g. --kubernetes 1.36.4"
        )
    return None


class _Dumper(yaml.SafeDumper):
    """Writes the inner documents as blocks, so that a person can read the file."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _document(value: Mapping[str, Any]) -> str:
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, width=200)


def _patches(spec: ClusterSpec, *, cgroup_v1: bool) -> list[dict[str, Any]]:
    """Merge patches for kubeadm's configuration.

    They have no apiVersion, so that kind applies them to every kubeadm version (v1beta2 to
    v1beta4) and turns maps of arguments into v1beta4's lists, keeping its own arguments.
    """
    cluster: dict[str, Any] = {"kind": "ClusterConfiguration"}
    gates = eras.kubeadm_feature_gates(spec.kubernetes)
    if gates:
        cluster["featureGates"] = gates
    apiserver = eras.apiserver_args(spec)
    if apiserver:
        cluster["apiServer"] = {"extraArgs": apiserver}
    cluster["controllerManager"] = {"extraArgs": eras.controller_manager_args(spec)}
    patches = [cluster]
    if spec.kubernetes.at_least(1, 36):  # kind writes v1beta4 from here on, which has the field
        # kubeadm's own minute is not enough for a machine that is busy with something else.
        waits = {"timeouts": {"kubernetesAPICall": API_CALL_WITHIN}}
        patches += [{"kind": kind, **waits} for kind in ("InitConfiguration", "JoinConfiguration")]
    proxy = eras.kube_proxy_config(spec)
    if proxy:
        patches.append({"kind": "KubeProxyConfiguration", **proxy})
    if cgroup_v1 and spec.kubernetes.at_least(1, 31):  # older kubelets do not know the field
        patches.append({"kind": "KubeletConfiguration", "failCgroupV1": False})
    return patches
