"""kube-proxy: CFG-007, CFG-008."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from clusters.spec import ClusterSpec, load_profile
from helpers import service_proxy_config
from helpers.model import FAMILIES, Family
from helpers.netstate import Netfilter, NetState, parse_chains, parse_tables
from helpers.service_proxy_config import GROUP_LABEL, LocalDetection
from helpers.verdicts import Inconclusive
from helpers.views import NodeView

Recorded = Callable[[str], Any]
IPV4, IPV6 = FAMILIES
PODS = (ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/56"))
NODES = ("control-plane", "worker", "worker2")
NFTABLES = dict.fromkeys(NODES, "nftables")


@pytest.fixture
def filters(recorded: Recorded) -> Netfilter:
    chains = parse_chains([recorded("ip6tables-nft-save.txt")])
    tables = parse_tables(json.dumps(recorded("nft-tables.json")))
    return Netfilter(tables, {IPV4: chains, IPV6: chains})


def test_the_recorded_mode_is_good(states: dict[str, NetState], filters: Netfilter) -> None:
    assert service_proxy_config.mode_findings(NFTABLES, NFTABLES) == []
    assert (
        service_proxy_config.kernel_findings("worker", "nftables", states["worker"], filters) == []
    )


def test_cfg_007_another_mode_than_declared() -> None:
    declared = {**NFTABLES, "worker": "ipvs"}
    answered = {**NFTABLES, "worker": "iptables"}
    (found,) = service_proxy_config.mode_findings(declared, answered)
    assert found.startswith("kube-proxy on worker runs iptables, profile requires ipvs")


def test_cfg_007_nobody_answers() -> None:
    (found,) = service_proxy_config.mode_findings(NFTABLES, {**NFTABLES, "worker2": "none"})
    assert "kube-proxy on worker2 does not answer on :10249/proxyMode" in found


def test_cfg_007_auto_is_any_one_mode() -> None:
    declared = dict.fromkeys(NODES, "auto")
    assert service_proxy_config.mode_findings(declared, NFTABLES) == []
    mixed = {**NFTABLES, "worker": "iptables"}
    (found,) = service_proxy_config.mode_findings(declared, mixed)
    assert "different modes (iptables, nftables)" in found


def test_cfg_007_answers_ipvs_without_the_interface(
    states: dict[str, NetState], filters: Netfilter
) -> None:
    (found,) = service_proxy_config.kernel_findings("worker", "ipvs", states["worker"], filters)
    assert found == "kube-proxy on worker says ipvs, but there is no interface kube-ipvs0"


@pytest.mark.parametrize(
    ("mode", "words"),
    [("nftables", "no table ip6 kube-proxy"), ("iptables", "no chain KUBE-SERVICES in ip6tables")],
)
def test_cfg_007_one_family_is_not_programmed(
    states: dict[str, NetState], mode: str, words: str
) -> None:
    """A kube-proxy that found no ip6tables says so in its log and goes on with IPv4."""
    half = Netfilter(
        {IPV4: frozenset({"kube-proxy"}), IPV6: frozenset({"filter"})},
        {IPV4: frozenset({"KUBE-SERVICES"}), IPV6: frozenset({"cali-FORWARD"})},
    )
    (found,) = service_proxy_config.kernel_findings("worker", mode, states["worker"], half)
    assert words in found
    assert "does not program IPv6 Services" in found


def with_guest() -> ClusterSpec:
    """Workers in nftables mode, and one with a kernel of its own in ipvs mode."""
    native = load_profile("native", {"proxy_mode": "nftables"})
    groups = [group.model_dump(mode="json") for group in native.nodes]
    guest = {**groups[1], "name": "guests", "count": 1, "kernel": "guest", "proxy_mode": "ipvs"}
    return native.changed(nodes=[*groups, guest])


def test_declared_modes_come_from_the_group_of_a_node(nodes: list[NodeView]) -> None:
    labels = {**nodes[2].labels, GROUP_LABEL: "guests"}
    modes = service_proxy_config.declared_modes(
        with_guest(), [*nodes[:2], replace(nodes[2], labels=labels)]
    )
    assert modes == {"control-plane": "nftables", "worker": "nftables", "worker2": "ipvs"}


def test_declared_modes_of_nodes_without_label_come_from_their_role(nodes: list[NodeView]) -> None:
    plain = [replace(node, labels={}, control_plane=False) for node in nodes]
    spec = load_profile("native", {"proxy_mode": "iptables"})
    assert set(service_proxy_config.declared_modes(spec, plain).values()) == {"iptables"}


def test_declared_modes_that_cannot_be_told_apart(nodes: list[NodeView]) -> None:
    plain = [replace(node, labels={}, control_plane=False) for node in nodes]
    with pytest.raises(Inconclusive, match="label the node with its group's name"):
        service_proxy_config.declared_modes(with_guest(), plain)


# -- which pods it knows --------------------------------------------------------------------------


def detection(recorded: Recorded, **changes: str) -> LocalDetection:
    config = recorded("configz.json")["kubeproxy.config.k8s.io"]
    return LocalDetection.from_config({**config, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_configuration_is_good(recorded: Recorded, family: Family) -> None:
    seen = detection(recorded)
    assert seen.cluster_cidrs == PODS
    assert service_proxy_config.cluster_cidr_findings("worker", family, seen, PODS) == []


def test_cfg_008_an_ipv4_cluster_cidr_only(recorded: Recorded) -> None:
    seen = detection(recorded, clusterCIDR="10.244.0.0/16")
    (found,) = service_proxy_config.cluster_cidr_findings("worker", IPV6, seen, PODS)
    assert found == (
        "kube-proxy on worker knows no IPv6 cluster CIDR (clusterCIDR=10.244.0.0/16): IPv6 "
        "ClusterIP traffic from outside is not masqueraded. The flag is --cluster-cidr "
        "(clusterCIDR); --cluster-cidrs does not exist"
    )
    assert service_proxy_config.cluster_cidr_findings("worker", IPV4, seen, PODS) == []


def test_cfg_008_a_cluster_cidr_that_covers_half_of_the_pods(recorded: Recorded) -> None:
    seen = detection(recorded, clusterCIDR="10.244.0.0/16,fd00:10:244::/57")
    (found,) = service_proxy_config.cluster_cidr_findings("worker", IPV6, seen, PODS)
    assert "takes fd00:10:244::/57 for the IPv6 pods" in found


def test_other_local_modes_need_no_cidr(recorded: Recorded) -> None:
    seen = detection(recorded, clusterCIDR="", detectLocalMode="NodeCIDR")
    assert service_proxy_config.cluster_cidr_findings("worker", IPV6, seen, PODS) == []


def test_the_internal_form_is_read_too() -> None:
    config = {
        "DetectLocalMode": "ClusterCIDR",
        "DetectLocal": {"ClusterCIDRs": ["10.244.0.0/16", "fd00:10:244::/56"]},
    }
    assert LocalDetection.from_config(config).cluster_cidrs == PODS
    assert LocalDetection.from_config({"ClusterCIDR": ""}).cluster_cidrs == ()
