"""Nodes: CFG-005, CFG-009, CFG-010, CFG-012."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from helpers import node_config
from helpers.calico import ADDRESS_ANNOTATIONS
from helpers.model import FAMILIES, DualAddresses, Family, IPAddress
from helpers.netstate import NetState
from helpers.platforms import CalicoNode
from helpers.views import NodeView

Recorded = Callable[[str], Any]
IPV4, IPV6 = FAMILIES


def by_name(nodes: list[NodeView], name: str = "worker") -> NodeView:
    return next(node for node in nodes if node.name == name)


def with_addresses(node: NodeView, *addresses: str) -> NodeView:
    return replace(node, internal_ips=DualAddresses.parse(addresses))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_internal_ips_are_good(nodes: list[NodeView], family: Family) -> None:
    assert node_config.internal_ip_findings(nodes, family, FAMILIES) == []


def test_cfg_005_a_kubelet_with_one_node_ip(nodes: list[NodeView]) -> None:
    single = with_addresses(by_name(nodes), "10.243.0.3")
    (found,) = node_config.internal_ip_findings([single], IPV6, FAMILIES)
    assert found.startswith("node worker registers 0 IPv6 InternalIPs (all: 10.243.0.3)")
    assert node_config.internal_ip_findings([single], IPV4, FAMILIES) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_cfg_005_a_kubelet_with_the_order_reversed(nodes: list[NodeView], family: Family) -> None:
    swapped = with_addresses(by_name(nodes), "fd00:10:243::3", "10.243.0.3")
    (found,) = node_config.internal_ip_findings([swapped], family, FAMILIES)
    assert "but the cluster is IPv4-primary: correct the order" in found
    assert node_config.internal_ip_findings([swapped], family, FAMILIES[::-1]) == []


def test_cfg_005_link_local_and_too_many(nodes: list[NodeView]) -> None:
    local = with_addresses(by_name(nodes), "10.243.0.3", "fe80::3")
    (found,) = node_config.internal_ip_findings([local], IPV6, FAMILIES)
    assert "registers the link-local address fe80::3" in found
    many = with_addresses(by_name(nodes), "10.243.0.3", "fd00::3", "fd00::4")
    (found,) = node_config.internal_ip_findings([many], IPV6, FAMILIES)
    assert "registers 2 IPv6 InternalIPs" in found


# -- paths between nodes --------------------------------------------------------------------------


def addresses(nodes: list[NodeView], family: Family) -> dict[str, IPAddress]:
    return {node.name: node.internal_ips.require(family) for node in nodes}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_nodes_have_no_tunnels_between_them(
    nodes: list[NodeView], states: dict[str, NetState], family: Family
) -> None:
    assert node_config.tunnel_findings(states, addresses(nodes, family)) == []


def test_cfg_009_a_tunnel_between_nodes(nodes: list[NodeView], recorded: Recorded) -> None:
    raw = recorded("states.json")["worker"]
    raw["routes6"].append({"dst": "fd00:10:243::4", "dev": "vxlan-v6.calico"})
    found = node_config.tunnel_findings(
        {"worker": NetState.from_facts(raw)}, addresses(nodes, IPV6)
    )
    assert len(found) == 1
    assert "worker reaches worker2 (fd00:10:243::4) through vxlan-v6.calico" in found[0]


def test_cfg_009_no_route_to_the_other_node(nodes: list[NodeView], recorded: Recorded) -> None:
    raw = recorded("states.json")["worker"]
    raw["routes6"] = []
    found = node_config.tunnel_findings(
        {"worker": NetState.from_facts(raw)}, addresses(nodes, IPV6)
    )
    assert len(found) == 2
    assert "worker has no route to" in found[0]


# -- forwarding -----------------------------------------------------------------------------------

GOOD = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/eth0/disable_ipv6": "0",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forwarding_node_is_good(states: dict[str, NetState], family: Family) -> None:
    state = states["worker"]
    assert node_config.forwarding_findings("worker", family, state, GOOD, "eth0") == []


@pytest.mark.parametrize(
    ("family", "change", "words"),
    [
        (
            IPV6,
            {"net/ipv6/conf/all/forwarding": "0"},
            "IPv6 forwarding is off on node worker: sysctl net.ipv6.conf.all.forwarding is 0",
        ),
        (IPV4, {"net/ipv4/ip_forward": "0"}, "IPv4 forwarding is off on node worker"),
        (
            IPV6,
            {"net/ipv6/conf/eth0/disable_ipv6": "1"},
            "IPv6 is switched off on node worker: sysctl net.ipv6.conf.eth0.disable_ipv6 is 1",
        ),
        (IPV6, {"net/ipv6/conf/all/disable_ipv6": None}, "is not there, must be 0"),
    ],
)
def test_cfg_010_a_wrong_sysctl_is_named(
    states: dict[str, NetState], family: Family, change: dict[str, str | None], words: str
) -> None:
    seen = {**GOOD, **change}
    (found,) = node_config.forwarding_findings("worker", family, states["worker"], seen, "eth0")
    assert words in found


@pytest.mark.parametrize("family", FAMILIES)
def test_cfg_010_a_node_without_default_route(recorded: Recorded, family: Family) -> None:
    raw = recorded("states.json")["worker"]
    key = f"routes{family.version}"
    raw[key] = [route for route in raw[key] if route["dst"] != "default"]
    state = NetState.from_facts(raw)
    (found,) = node_config.forwarding_findings("worker", family, state, GOOD, "eth0")
    assert f"node worker has no {family.kubernetes} default route" in found


# -- BGP addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_bgp_addresses_are_good(
    nodes: list[NodeView],
    states: dict[str, NetState],
    calico_nodes: dict[str, CalicoNode],
    family: Family,
) -> None:
    for node in nodes:
        env = calico_nodes[node.name].env
        assert node_config.bgp_address_findings(node, family, env, states[node.name]) == []
        assert node_config.fabric_interface(node, family, states[node.name]) == "eth0"


def without_annotation(node: NodeView, family: Family) -> NodeView:
    kept = {k: v for k, v in node.annotations.items() if k != ADDRESS_ANNOTATIONS[family]}
    return replace(node, annotations=kept)


def with_annotation(node: NodeView, family: Family, value: str) -> NodeView:
    return replace(node, annotations={**node.annotations, ADDRESS_ANNOTATIONS[family]: value})


def test_cfg_012_autodetection_off_and_no_address(
    nodes: list[NodeView], states: dict[str, NetState]
) -> None:
    node = without_annotation(by_name(nodes), IPV6)
    found = node_config.bgp_address_findings(node, IPV6, {"IP6": "none"}, states["worker"])
    assert len(found) == 2
    assert "calico-node on node worker has IP6=none" in found[0]
    assert found[1].startswith("Calico has no IPv6 address for node worker")
    assert "BIRD has no IPv6 session to it and its IPv6 blocks are not routed" in found[1]


def test_cfg_012_an_unset_variable_means_off_for_ipv6_only(
    nodes: list[NodeView], states: dict[str, NetState]
) -> None:
    node = by_name(nodes)
    (found,) = node_config.bgp_address_findings(node, IPV6, {}, states["worker"])
    assert "IP6=(unset)" in found
    assert node_config.bgp_address_findings(node, IPV4, {}, states["worker"]) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fd00:10:243::99/64", "is on none of its interfaces"),
        ("::1/128", "Calico took ::1 on lo"),
    ],
)
def test_cfg_012_an_address_that_is_not_the_nodes(
    nodes: list[NodeView], states: dict[str, NetState], value: str, words: str
) -> None:
    node = with_annotation(by_name(nodes), IPV6, value)
    env = {"IP6": "autodetect"}
    found = node_config.bgp_address_findings(node, IPV6, env, states["worker"])
    assert len(found) == 2
    assert words in found[0]
    assert f"Calico uses {ip_address(value.split('/')[0])} for node worker" in found[1]
