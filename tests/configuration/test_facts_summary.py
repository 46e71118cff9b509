"""What results.json says of the cluster, from recorded facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.facts import Facts
from reports.model import ClusterInfo


@pytest.fixture
def raw(recorded: Callable[[str], Any]) -> dict[str, Any]:
    nodes = recorded("nodes.json")
    names = [node["metadata"]["name"] for node in nodes]
    return {
        "version": recorded("version.json"),
        "nodes": nodes,
        "arguments": recorded("arguments.json"),
        "kubeadm": "networking: {podSubnet: '10.244.0.0/16,fd00:10:244::/56'}",
        "kube_proxy": "mode: nftables\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/56\nqps: 5",
        "kubelet": {},
        "proxy_modes": {name: "nftables" for name in names},  # noqa: C420  # reads as what it is
        "cni": {name: recorded("conflist.json") for name in names},
        "calico_node": {
            "image": "x:v3.31.0",
            "env": recorded("calico_nodes.json")[names[0]]["env"],
        },
        "cluster_information": [],
        "pools": recorded("pools.json"),
        "felix": recorded("felix.json"),
        "blocks": [],
        "affinities": [],
        "global_policies": [],
        "corefile": ".:53 { forward . /etc/resolv.conf }",
    }


def test_a_healthy_cluster(raw: dict[str, Any]) -> None:
    info = ClusterInfo.model_validate({"name": "c", **Facts(raw).summary()})
    assert {node.cni_assigns for node in info.nodes} == {("ipv4", "ipv6")}
    assert all(len(node.calico_addresses) == len(node.addresses) == 2 for node in info.nodes)
    assert [pool.disabled for pool in info.pools] == [False, False]
    assert info.kube_proxy == {"mode": "nftables", "clusterCIDR": "10.244.0.0/16,fd00:10:244::/56"}
    assert info.calico_node["CALICO_NETWORKING_BACKEND"] == "bird"
    assert info.controller_pod_cidrs == ("10.244.0.0/16", "fd00:10:244::/56")
    assert info.global_policies == ()
    assert "forward" in info.corefile


def test_a_cni_that_does_not_ask_for_ipv6(raw: dict[str, Any]) -> None:
    (name, conflist), *_ = raw["cni"].items()
    del conflist["plugins"][0]["ipam"]["assign_ipv6"]
    info = ClusterInfo.model_validate({"name": "c", **Facts(raw).summary()})
    assert {n.name: n.cni_assigns for n in info.nodes if n.name == name} == {name: ("ipv4",)}


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({"action": "Allow", "ipVersion": 6}, ("ipv6",)),
        ({"action": "Allow"}, ("ipv4", "ipv6")),
        ({"action": "Allow", "ipVersion": 6, "protocol": "ICMPv6"}, ()),
        ({"action": "Deny", "ipVersion": 6}, ()),
    ],
)
def test_what_a_global_policy_allows(
    raw: dict[str, Any], rule: dict[str, Any], allowed: tuple[str, ...]
) -> None:
    spec = {"order": 0, "selector": "all()", "ingress": [rule]}
    raw["global_policies"] = [{"metadata": {"name": "wide"}, "spec": spec}]
    info = ClusterInfo.model_validate({"name": "c", **Facts(raw).summary()})
    assert [(p.name, p.allows_all) for p in info.global_policies] == [("wide", allowed)]


def test_facts_of_an_earlier_run_have_no_policies(raw: dict[str, Any]) -> None:
    del raw["global_policies"], raw["corefile"]
    info = ClusterInfo.model_validate({"name": "c", **Facts(raw).summary()})
    assert (info.global_policies, info.corefile) == ((), "")
