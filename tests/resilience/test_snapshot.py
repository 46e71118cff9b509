"""The state before and after an upgrade: what an operator must know, and what is noise."""

from __future__ import annotations

import copy
import json
from typing import Any

from helpers.model import Family
from helpers.resilience import snapshot
from reports.figures import Changes

POOL = {
    "metadata": {"name": "default-ipv6-ippool", "uid": "a", "resourceVersion": "7"},
    "spec": {"cidr": "fd00:10:244::/56", "blockSize": 122, "vxlanMode": "Never"},
}
CRD = {
    "metadata": {"name": "felixconfigurations.crd.projectcalico.org"},
    "spec": {
        "group": "crd.projectcalico.org",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "properties": {"spec": {"properties": {"ipv6Support": {"type": "boolean"}}}}
                    }
                },
            }
        ],
    },
}


def node(**more: str) -> dict[str, str]:
    return {"kube-proxy mode": "nftables", "MTU of cali*": "1500", **more}


def test_settings_are_told_field_by_field_without_uids() -> None:
    changed: dict[str, Any] = copy.deepcopy(POOL)
    changed["metadata"] |= {"uid": "b", "resourceVersion": "9"}
    changed["spec"] |= {"assignmentMode": "Automatic"}
    found = snapshot.changes(
        snapshot.settings({"IPPool": [POOL]}), snapshot.settings({"IPPool": [changed]})
    )
    assert found == [
        {
            "where": "IPPool default-ipv6-ippool",
            "what": "assignmentMode",
            "old": None,
            "new": "Automatic",
        }
    ]


def test_a_pool_that_is_gone_is_told() -> None:
    found = snapshot.changes(snapshot.settings({"IPPool": [POOL]}), {})
    assert {"where": "IPPool default-ipv6-ippool", "what": "cidr", "old": "fd00:10:244::/56",
            "new": None} in found  # fmt: skip


def test_new_settings_of_definitions_are_told_with_their_defaults() -> None:
    newer: dict[str, Any] = copy.deepcopy(CRD)
    properties = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    properties["spec"]["properties"]["nftablesMode"] = {
        "type": "string",
        "default": "Auto",
        "enum": ["Auto", "Enabled"],
    }
    other = {"metadata": {"name": "x.example.org"}, "spec": {"group": "example.org"}}
    found = snapshot.changes(snapshot.definitions([CRD, other]), snapshot.definitions([newer]))
    assert [(c["what"], c["old"], c["new"]) for c in found] == [
        ("field nftablesMode", None, 'string, default "Auto", one of Auto, Enabled')
    ]


def test_environment_images_and_configuration_are_told() -> None:
    def workload(tag: str, value: str) -> dict[str, Any]:
        container = {
            "name": "calico-node",
            "image": f"calico/node:{tag}",
            "env": [{"name": "FELIX_IPV6SUPPORT", "value": value}],
        }
        spec = {"template": {"spec": {"containers": [container]}}}
        return {"kind": "DaemonSet", "metadata": {"name": "calico-node"}, "spec": spec}

    old = snapshot.workloads([workload("v3.30.1", "true")])
    new = snapshot.workloads([workload("v3.31.0", "false")])
    assert {(c["what"], c["old"], c["new"]) for c in snapshot.changes(old, new)} == {
        ("image of calico-node", "calico/node:v3.30.1", "calico/node:v3.31.0"),
        ("calico-node: FELIX_IPV6SUPPORT", "true", "false"),
    }
    cni = {"data": {"cni_network_config": '{"plugins": [{"mtu": 1500}]}', "veth_mtu": "0"}}
    assert snapshot.configuration(cni) == {
        "ConfigMap calico-config": {
            "cni_network_config.plugins": '[{"mtu": 1500}]',
            "veth_mtu": "0",
        }
    }


def test_routes_are_counted_by_family_protocol_and_metric() -> None:
    found = [
        {"dst": "fd00::40/122", "protocol": "bird", "metric": 1024},
        {"dst": "fd00::80/122", "protocol": "bird", "metric": 1024},
        {"dst": "fd00::/122", "protocol": "bird", "type": "blackhole", "metric": 1024},
    ]
    assert snapshot.routes(found, Family.IPV6) == {
        "ipv6 blackhole routes of bird with metric 1024": "1",
        "ipv6 unicast routes of bird with metric 1024": "2",
    }


def test_hashes_in_names_are_no_change() -> None:
    def names(*hashes: str) -> list[str]:
        return [
            "cali-FORWARD",
            *(f"cali-tw-cali{h}" for h in hashes),
            *(f"KUBE-SVC-{h.upper()}" for h in hashes),
            *(f"service-{h}-default/web/tcp/80" for h in hashes),
            "KUBE-SERVICES",
        ]

    old = snapshot.chains("ipv6 chains of iptables", names("1f00aa", "2e11bb"))
    assert old == snapshot.chains("ipv6 chains of iptables", names("9c55", "8d44"))
    assert old["ipv6 chains of iptables: cali-tw-*"] == "2"
    assert old["ipv6 chains of iptables: cali-FORWARD"] == "1"
    assert snapshot.interfaces(
        [{"ifname": "cali1f00aa", "mtu": 1500}, {"ifname": "eth0", "mtu": 1500}, {}]
    ) == {"MTU of cali*": "1500", "MTU of eth0": "1500"}


def test_objects_of_nftables_are_counted_by_table() -> None:
    chain = {"family": "ip6", "table": "kube-proxy", "name": "service-2QRHZV4L-default/kubernetes"}
    text = json.dumps({"nftables": [{"metainfo": {}}, {"chain": chain}, {"set": {}}]})
    assert snapshot.nft("chains", text) == {"chains of nftables in ip6 kube-proxy: service-*": "1"}
    assert snapshot.nft("sets", "") == {}


def test_blocks_are_counted_by_node_and_family() -> None:
    found = [
        {"spec": {"affinity": "host:w1", "cidr": "fd00::40/122"}},
        {"spec": {"affinity": "host:w1", "cidr": "10.244.1.0/26"}},
    ]
    assert snapshot.blocks(found) == {"IPAM blocks of w1": {"ipv4": "1", "ipv6": "1"}}


def test_what_changes_everywhere_is_told_once() -> None:
    old = {"w1": node(), "w2": node()}
    everywhere = {"w1": node(**{"MTU of cali*": "1450"}), "w2": node(**{"MTU of cali*": "1450"})}
    assert [c["where"] for c in snapshot.changes(old, everywhere)] == ["every node"]
    one = {"w1": node(), "w2": node(**{"MTU of cali*": "1450"})}
    assert [c["where"] for c in snapshot.changes(old, one)] == ["w2"]


def test_the_difference_is_a_figure_that_the_page_draws() -> None:
    made = snapshot.figure({"w1": node()}, {"w1": node(x="1")}, ("v3.30.1", "v3.31.0"))
    figure = Changes.model_validate(made)
    assert (figure.old, figure.new) == ("v3.30.1", "v3.31.0")
    assert [each.what for each in figure.changes] == ["x"]
