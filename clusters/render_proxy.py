"""kube-proxy of more than one mode in one cluster: a DaemonSet and a ConfigMap for each mode.

kubeadm makes one of each. Nodes of another mode get copies of both, chosen by the node's label, and
the one that was there is kept off them by affinity. Pure functions, documents in and out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import yaml

from clusters.render_kind import PROXY_LABEL
from clusters.spec import ClusterSpec, ProxyMode

Object = dict[str, Any]

NAMESPACE: Final = "kube-system"
NAME: Final = "kube-proxy"
CONFIG_KEY: Final = "config.conf"


class ProxyError(ValueError):
    """kube-proxy is not deployed as kubeadm does it; the text names what is missing."""


def other_modes(spec: ClusterSpec) -> tuple[ProxyMode, ...]:
    """Modes of node groups that kubeadm's own kube-proxy does not run in, in order."""
    modes = dict.fromkeys(group.proxy_mode for group in spec.nodes)
    return tuple(mode for mode in modes if mode is not spec.proxy_mode)


def proxy_name(mode: ProxyMode) -> str:
    """Name of the DaemonSet and of the ConfigMap of another mode."""
    return f"{NAME}-{mode}"


def kept_off(modes: tuple[ProxyMode, ...]) -> Object:
    """What to apply to kubeadm's DaemonSet: it does not run on nodes of these modes."""
    expression = {"key": PROXY_LABEL, "operator": "NotIn", "values": [m.value for m in modes]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"affinity": affinity}}},
    }


def proxy_of_mode(
    config_map: Mapping[str, Any], daemon_set: Mapping[str, Any], mode: ProxyMode
) -> list[Object]:
    """ConfigMap and DaemonSet of nodes of another mode; all else as kubeadm wrote it.

    Args:
        config_map, daemon_set: kubeadm's own, as the API has them; not modified.

    Raises:
        ProxyError: something to be changed is not there.
    """
    name = proxy_name(mode)
    data = dict(config_map.get("data") or {})
    if CONFIG_KEY not in data:
        raise ProxyError(f"ConfigMap {NAMESPACE}/{NAME} has no {CONFIG_KEY}")
    configuration = yaml.safe_load(data[CONFIG_KEY])
    data[CONFIG_KEY] = yaml.safe_dump({**configuration, "mode": mode.value}, sort_keys=False)
    template = copy.deepcopy(daemon_set["spec"]["template"])
    pod = template["spec"]
    volumes = [v for v in pod.get("volumes", []) if v.get("configMap", {}).get("name") == NAME]
    if not volumes:
        raise ProxyError(f"DaemonSet {NAMESPACE}/{NAME} mounts no ConfigMap {NAME}")
    for volume in volumes:
        volume["configMap"]["name"] = name
    pod.pop("affinity", None)
    pod["nodeSelector"] = {**pod.get("nodeSelector", {}), PROXY_LABEL: mode.value}
    # Found like all kube-proxies (k8s-app), and told apart by the second label.
    labels = {"k8s-app": NAME, PROXY_LABEL: mode.value}
    template["metadata"] = {"labels": labels}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "updateStrategy": copy.deepcopy(daemon_set["spec"].get("updateStrategy", {})),
                "template": template,
            },
        },
    ]
