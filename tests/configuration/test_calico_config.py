"""Calico's configuration: CFG-011, CFG-013, CFG-014, CFG-016."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from helpers import calico_config
from helpers.calico import IPPool
from helpers.kube_errors import ApiError
from helpers.model import FAMILIES, Family
from helpers.netstate import Netfilter, parse_chains
from helpers.platforms import CalicoNode
from helpers.views import NodeView

Recorded = Callable[[str], Any]
IPV4, IPV6 = FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_conflist_is_good(recorded: Recorded, family: Family) -> None:
    assert calico_config.cni_findings("worker", family, recorded("conflist.json")) == []


def conflist(recorded: Recorded, **ipam: Any) -> dict[str, Any]:
    """The recording with other values under ``ipam``; None removes one."""
    config: dict[str, Any] = recorded("conflist.json")
    mine = next(p for p in config["plugins"] if p["type"] == "calico")["ipam"]
    mine.update(ipam)
    for key in [key for key, value in mine.items() if value is None]:
        del mine[key]
    return config


def test_cfg_011_without_assign_ipv6(recorded: Recorded) -> None:
    (found,) = calico_config.cni_findings("worker", IPV6, conflist(recorded, assign_ipv6=None))
    assert found.startswith(
        "Calico CNI config on node worker does not request IPv6 (ipam.assign_ipv6 is absent, must "
        'be the string "true"): new pods get IPv4 only'
    )


def test_cfg_011_defaults_differ_between_the_families(recorded: Recorded) -> None:
    bare = conflist(recorded, assign_ipv4=None)
    assert calico_config.cni_findings("worker", IPV4, bare) == []
    (found,) = calico_config.cni_findings("worker", IPV4, conflist(recorded, assign_ipv4="false"))
    assert "does not request IPv4 (ipam.assign_ipv4 is 'false'" in found


def test_cfg_011_a_boolean_is_not_a_string(recorded: Recorded) -> None:
    (found,) = calico_config.cni_findings("worker", IPV6, conflist(recorded, assign_ipv6=True))
    assert "ipam.assign_ipv6 is True" in found


def test_cfg_011_another_ipam_and_no_file(recorded: Recorded) -> None:
    (found,) = calico_config.cni_findings("worker", IPV6, conflist(recorded, type="host-local"))
    assert "has ipam.type 'host-local', must be 'calico-ipam'" in found
    (found,) = calico_config.cni_findings("worker", IPV6, None)
    assert "has no /etc/cni/net.d/10-calico.conflist" in found
    (found,) = calico_config.cni_findings("worker", IPV6, {"plugins": [{"type": "bridge"}]})
    assert "has 0 plugins of type calico" in found


# -- Felix ----------------------------------------------------------------------------------------


@pytest.fixture
def filters(recorded: Recorded) -> Netfilter:
    chains = parse_chains([recorded("ip6tables-nft-save.txt")])
    return Netfilter(dict.fromkeys(FAMILIES, frozenset()), {IPV4: frozenset(), IPV6: chains})


def with_env(calico: CalicoNode, **env: str) -> CalicoNode:
    return replace(calico, env={**calico.env, **env})


def test_the_recorded_felix_is_good(
    calico_nodes: dict[str, CalicoNode], filters: Netfilter
) -> None:
    for calico in calico_nodes.values():
        assert calico_config.felix_ipv6_findings(calico, {}, filters) == []


def test_cfg_013_switched_off_by_the_environment(
    calico_nodes: dict[str, CalicoNode], filters: Netfilter
) -> None:
    """Leftover chains do not speak for it: Felix no longer keeps them."""
    off = with_env(calico_nodes["worker"], FELIX_IPV6SUPPORT="false")
    (found,) = calico_config.felix_ipv6_findings(off, {"default": {"ipv6Support": True}}, filters)
    assert found.startswith(
        "Felix IPv6 support is off on node worker (FELIX_IPV6SUPPORT of calico-node is false): "
        "IPv6 works but NetworkPolicy and anti-spoofing are NOT enforced for IPv6"
    )


def test_cfg_013_switched_off_for_one_node(
    calico_nodes: dict[str, CalicoNode], filters: Netfilter
) -> None:
    calico = with_env(calico_nodes["worker"], FELIX_IPV6SUPPORT="")
    felix = {"node.worker": {"ipv6Support": False}, "default": {"ipv6Support": True}}
    (found,) = calico_config.felix_ipv6_findings(calico, felix, filters)
    assert "(FelixConfiguration node.worker is False)" in found
    assert calico_config.felix_ipv6_findings(calico, {}, filters) == []  # true by default


def test_cfg_013_on_but_nothing_in_the_kernel(calico_nodes: dict[str, CalicoNode]) -> None:
    empty = Netfilter(dict.fromkeys(FAMILIES, frozenset()), dict.fromkeys(FAMILIES, frozenset()))
    (found,) = calico_config.felix_ipv6_findings(calico_nodes["worker"], {}, empty)
    assert "no cali- chains in ip6tables and no table ip6 calico" in found


def test_cfg_013_nftables_dataplane(calico_nodes: dict[str, CalicoNode]) -> None:
    tables = {IPV4: frozenset[str](), IPV6: frozenset({"calico"})}
    seen = Netfilter(tables, dict.fromkeys(FAMILIES, frozenset()))
    assert calico_config.felix_ipv6_findings(calico_nodes["worker"], {}, seen) == []


def test_cfg_013_no_boolean(calico_nodes: dict[str, CalicoNode], filters: Netfilter) -> None:
    odd = with_env(calico_nodes["worker"], FELIX_IPV6SUPPORT="enabled")
    (found,) = calico_config.felix_ipv6_findings(odd, {}, filters)
    assert "which is no boolean" in found


# -- pools ----------------------------------------------------------------------------------------

NAMESPACES = {"default": {"kubernetes.io/metadata.name": "default"}, "other": {"team": "a"}}


def changed(pools: list[IPPool], family: Family, **changes: Any) -> list[IPPool]:
    return [replace(p, **changes) if p.family is family else p for p in pools]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_pools_are_good(
    pools: list[IPPool], nodes: list[NodeView], family: Family
) -> None:
    assert calico_config.pool_findings(pools, family, nodes, NAMESPACES) == []
    assert calico_config.encapsulation_findings(pools, family) == []


def test_cfg_014_a_disabled_pool(pools: list[IPPool], nodes: list[NodeView]) -> None:
    faulty = changed(pools, IPV6, disabled=True)
    found = calico_config.pool_findings(faulty, IPV6, nodes, NAMESPACES)
    assert len(found) == 3
    assert found[1].startswith(
        "No enabled Calico IPv6 IPPool selects node worker (default-ipv6-ippool is disabled): CNI "
        "ADD fails, new pods stay ContainerCreating; running pods keep their IPv6"
    )
    assert calico_config.pool_findings(faulty, IPV4, nodes, NAMESPACES) == []
    assert calico_config.workload_pools(faulty, IPV6) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"assignment_mode": "Manual"}, "has assignmentMode Manual"),
        ({"allowed_uses": ("Tunnel",)}, "is for Tunnel only"),
        ({"node_selector": "!all()"}, "default-ipv6-ippool selects nodes by !all()"),
    ],
)
def test_cfg_014_pools_that_pods_do_not_get(
    pools: list[IPPool], nodes: list[NodeView], changes: dict[str, Any], words: str
) -> None:
    found = calico_config.pool_findings(changed(pools, IPV6, **changes), IPV6, nodes, {})
    assert len(found) == 3
    assert words in found[0]


def test_cfg_014_one_node_is_not_selected(pools: list[IPPool], nodes: list[NodeView]) -> None:
    faulty = changed(pools, IPV6, node_selector="kubernetes.io/hostname != 'worker2'")
    labelled = [replace(n, labels={**n.labels, "kubernetes.io/hostname": n.name}) for n in nodes]
    (found,) = calico_config.pool_findings(faulty, IPV6, labelled, {})
    assert "selects node worker2" in found
    cordoned = [replace(n, schedulable=n.name != "worker2") for n in labelled]
    assert calico_config.pool_findings(faulty, IPV6, cordoned, {}) == []


def test_cfg_014_one_namespace_is_not_selected(pools: list[IPPool], nodes: list[NodeView]) -> None:
    faulty = changed(pools, IPV6, namespace_selector="team == 'a'")
    found = calico_config.pool_findings(faulty, IPV6, nodes, NAMESPACES)
    assert len(found) == 3
    assert "is for the namespaces default: their new pods get no IPv6 address" in found[0]


def test_cfg_014_an_unreadable_selector(pools: list[IPPool], nodes: list[NodeView]) -> None:
    faulty = changed(pools, IPV6, node_selector="zone = 'a'")
    (found,) = calico_config.pool_findings(faulty, IPV6, nodes, {})
    assert "has a selector that cannot be read" in found


@pytest.mark.parametrize("field", ["vxlan_mode", "ipip_mode"])
def test_cfg_016_an_encapsulating_pool(pools: list[IPPool], field: str) -> None:
    (found,) = calico_config.encapsulation_findings(changed(pools, IPV6, **{field: "Always"}), IPV6)
    assert "IPv6 IPPool default-ipv6-ippool has ipipMode" in found
    assert "the profile requires native IPv6: set both to Never" in found


def test_a_disabled_pool_may_encapsulate(pools: list[IPPool]) -> None:
    """Control B1: an extra disabled pool is nobody's path."""
    extra = [replace(p, disabled=True, vxlan_mode="Always", name="old") for p in pools]
    assert calico_config.encapsulation_findings([*pools, *extra], IPV6) == []


class FakeKube:
    def __init__(self, answer: Exception | None) -> None:
        self.answer = answer

    def create(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        assert dry_run
        if self.answer:
            raise self.answer
        return manifest


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (LookupError("projectcalico.org/v3 is not served"), None),
        (ApiError(422, "Invalid", "IPIP is not supported on an IPv6 IP pool"), True),
        (None, False),
    ],
)
def test_cfg_016_what_the_api_says_to_ipip_on_ipv6(
    answer: Exception | None, refused: bool | None
) -> None:
    kube: Any = FakeKube(answer)
    assert calico_config.ipip_on_ipv6_is_refused(kube) is refused


def test_an_api_that_cannot_answer_is_no_refusal() -> None:
    kube: Any = FakeKube(ApiError(503, "Unavailable", "later"))
    with pytest.raises(ApiError):
        calico_config.ipip_on_ipv6_is_refused(kube)
