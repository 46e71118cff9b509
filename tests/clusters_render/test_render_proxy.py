"""A second kube-proxy for nodes of another mode: a copy in all but its mode and its nodes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from clusters import render_proxy
from clusters.kernel import KernelFacts
from clusters.render_kind import PROXY_LABEL, node_labels
from clusters.render_proxy import ProxyError
from clusters.spec import ClusterSpec, ProxyMode, load_profile

# As kubeadm 1.36 deploys it, without what the renderer does not look at.
CONFIG_MAP: dict[str, Any] = {
    "metadata": {"name": "kube-proxy", "namespace": "kube-system", "uid": "1"},
    "data": {
        "config.conf": yaml.safe_dump(
            {
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
                "clusterCIDR": "10.244.0.0/16,fd00:10:244::/56",
                "ipvs": {"scheduler": ""},
            }
        ),
        "kubeconfig.conf": "apiVersion: v1\n",
    },
}
DAEMON_SET: dict[str, Any] = {
    "metadata": {"name": "kube-proxy", "namespace": "kube-system", "uid": "2"},
    "spec": {
        "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
        "updateStrategy": {"type": "RollingUpdate"},
        "template": {
            "metadata": {"labels": {"k8s-app": "kube-proxy"}, "creationTimestamp": None},
            "spec": {
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "containers": [{"name": "kube-proxy", "image": "kube-proxy:v1"}],
                "volumes": [
                    {"name": "kube-proxy", "configMap": {"name": "kube-proxy"}},
                    {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock"}},
                ],
            },
        },
    },
}


@pytest.fixture
def guests(kernel_without_ipvs: KernelFacts) -> ClusterSpec:
    return load_profile("conformance").resolved(kernel_without_ipvs)


@pytest.fixture
def rendered() -> list[dict[str, Any]]:
    return render_proxy.proxy_of_mode(CONFIG_MAP, DAEMON_SET, ProxyMode.IPVS)


def test_a_mode_of_its_own_only_where_groups_differ(
    guests: ClusterSpec, kernel_with_ipvs: KernelFacts
) -> None:
    assert render_proxy.other_modes(guests) == (ProxyMode.IPVS,)
    assert render_proxy.other_modes(guests.without_guests()) == ()
    assert render_proxy.other_modes(load_profile("conformance").resolved(kernel_with_ipvs)) == ()


def test_only_the_mode_of_the_configuration_differs(rendered: list[dict[str, Any]]) -> None:
    (config_map, _) = rendered
    before = yaml.safe_load(CONFIG_MAP["data"]["config.conf"])
    after = yaml.safe_load(config_map["data"]["config.conf"])
    assert after == {**before, "mode": "ipvs"}
    assert config_map["data"]["kubeconfig.conf"] == CONFIG_MAP["data"]["kubeconfig.conf"]
    assert config_map["metadata"]["name"] == "kube-proxy-ipvs"


def test_the_copy_mounts_its_own_configuration(rendered: list[dict[str, Any]]) -> None:
    volumes = rendered[1]["spec"]["template"]["spec"]["volumes"]
    assert {v["name"]: v.get("configMap", {}).get("name") for v in volumes} == {
        "kube-proxy": "kube-proxy-ipvs",
        "xtables-lock": None,
    }


def test_each_node_is_wanted_by_exactly_one(
    guests: ClusterSpec, rendered: list[dict[str, Any]]
) -> None:
    kept_off = render_proxy.kept_off((ProxyMode.IPVS,))
    affinity = kept_off["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    ((expression,),) = (
        term["matchExpressions"]
        for term in affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    )
    chosen = rendered[1]["spec"]["template"]["spec"]["nodeSelector"]
    for group in guests.nodes:
        labels = node_labels(group) | {"kubernetes.io/os": "linux"}
        stock = labels[expression["key"]] not in expression["values"]
        copied = all(labels.get(key) == value for key, value in chosen.items())
        assert (stock, copied) == (group.proxy_mode != "ipvs", group.proxy_mode == "ipvs")


def test_pods_are_found_as_kube_proxies_and_told_apart(rendered: list[dict[str, Any]]) -> None:
    spec = rendered[1]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert labels == {"k8s-app": "kube-proxy", PROXY_LABEL: "ipvs"}
    assert spec["selector"]["matchLabels"] == labels


def test_a_rendered_affinity_is_not_copied() -> None:
    applied = copy.deepcopy(DAEMON_SET)
    applied["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": {}}
    _, daemon_set = render_proxy.proxy_of_mode(CONFIG_MAP, applied, ProxyMode.IPVS)
    assert "affinity" not in daemon_set["spec"]["template"]["spec"]


def test_inputs_are_not_modified(rendered: list[dict[str, Any]]) -> None:
    again = render_proxy.proxy_of_mode(CONFIG_MAP, DAEMON_SET, ProxyMode.IPVS)
    assert again == rendered
    assert DAEMON_SET["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}


@pytest.mark.parametrize(
    ("config_map", "daemon_set", "said"),
    [
        ({"data": {}}, DAEMON_SET, "has no config.conf"),
        (CONFIG_MAP, {"spec": {"template": {"spec": {}}}}, "mounts no ConfigMap kube-proxy"),
    ],
)
def test_what_is_missing_is_named(
    config_map: dict[str, Any], daemon_set: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProxyError, match=said):
        render_proxy.proxy_of_mode(config_map, daemon_set, ProxyMode.IPVS)
