"""Versions and combinations: CFG-001, CFG-002, CFG-018."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clusters import eras
from clusters.spec import Version
from helpers import platforms
from helpers.model import FAMILIES
from helpers.platforms import CalicoNode, Platform

Recorded = Callable[[str], Any]
SERVICE = {
    "spec": {
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": ["IPv4"],
        "clusterIPs": ["10.96.0.1"],
    }
}


def test_a_current_api_server_is_good(recorded: Recorded) -> None:
    assert platforms.api_findings(recorded("version.json"), SERVICE) == []


def test_cfg_001_kubernetes_1_15_has_no_dual_stack(recorded: Recorded) -> None:
    (found,) = platforms.api_findings(recorded("version-1.15.json"), SERVICE)
    assert found.startswith("the API server is Kubernetes v1.15.12, which has no dual stack")
    assert "upgrade to 1.16" in found


def test_the_legacy_api_needs_no_new_fields() -> None:
    assert platforms.api_findings({"minor": "19"}, {"spec": {}}) == []
    assert platforms.service_api_is_legacy(19)
    assert not platforms.service_api_is_legacy(20)


def test_cfg_001_services_without_families_are_named() -> None:
    (found,) = platforms.api_findings({"minor": "20+", "gitVersion": "v1.20.4-eks"}, {"spec": {}})
    assert "its Services have no ipFamilyPolicy, ipFamilies, clusterIPs" in found


@pytest.mark.parametrize(
    ("minor", "value", "words"),
    [
        (16, None, "does not name the feature gate IPv6DualStack"),
        (20, False, "has switched off the feature gate IPv6DualStack"),
        (21, False, "is then single-stack there"),
        (24, False, "remove the gate (it is on by default)"),
        (25, True, "no longer knows: it does not start the next time"),
        (36, False, "no longer knows"),
    ],
)
def test_cfg_002_a_wrong_gate_is_found(minor: int, value: bool | None, words: str) -> None:
    named = {} if value is None else {platforms.GATE: value}
    (found,) = platforms.gate_findings(minor, {"kubelet on w": named})
    assert found.startswith("kubelet on w ")
    assert words in found


@pytest.mark.parametrize(
    ("minor", "value"), [(16, True), (20, True), (21, None), (23, True), (25, None), (36, None)]
)
def test_a_right_gate_is_good(minor: int, value: bool | None) -> None:
    named = {} if value is None else {platforms.GATE: value}
    assert platforms.gate_findings(minor, {"kube-apiserver": named}) == []


@pytest.mark.parametrize("minor", range(16, 38))
def test_what_the_renderer_writes_passes_the_judgement(minor: int) -> None:
    """Two tables on purpose; they must not drift apart."""
    written = eras.feature_gates(Version(1, minor, 0))
    assert platforms.gate_findings(minor, {"kube-proxy": written}) == []


def test_gates_are_read_from_flags() -> None:
    values = ["IPv6DualStack=true", "Other=False"]
    assert platforms.parse_gates(values) == {"IPv6DualStack": True, "Other": False}


# -- the combination ------------------------------------------------------------------------------


@pytest.fixture
def platform(calico_nodes: dict[str, CalicoNode], recorded: Recorded) -> Platform:
    return Platform(
        kubernetes=36,
        calico=(3, 31),
        kernels=dict.fromkeys(calico_nodes, "6.18.44"),
        proxy_modes=dict.fromkeys(calico_nodes, "nftables"),
        ipvs_interface=frozenset(),
        calico_nodes=calico_nodes,
        felix={item["metadata"]["name"]: item["spec"] for item in recorded("felix.json")},
        netfilter=dict.fromkeys(calico_nodes, frozenset(FAMILIES)),
    )


def with_env(platform: Platform, node: str, **env: str) -> Platform:
    calico = platform.calico_nodes[node]
    changed = replace(calico, env={**calico.env, **env})
    return replace(platform, calico_nodes={**platform.calico_nodes, node: changed})


def test_the_recorded_platform_is_good(platform: Platform) -> None:
    assert platforms.combination_findings(platform) == []


def test_cfg_018_nftables_dataplane_beside_ipvs(platform: Platform) -> None:
    modes = {**platform.proxy_modes, "worker": "ipvs"}
    faulty = replace(with_env(platform, "worker", FELIX_NFTABLESMODE="Enabled"), proxy_modes=modes)
    (found,) = platforms.combination_findings(faulty)
    assert "on worker nftablesMode Enabled (FELIX_NFTABLESMODE of calico-node)" in found
    assert 'crash-loops with "IPVS not supported in nftables mode"' in found


def test_cfg_018_nftables_dataplane_meets_a_leftover_interface(platform: Platform) -> None:
    felix = {"default": {"nftablesMode": "Enabled"}}
    plain = {
        node: replace(c, env={k: v for k, v in c.env.items() if k != "FELIX_NFTABLESMODE"})
        for node, c in platform.calico_nodes.items()
    }
    faulty = replace(
        platform, calico_nodes=plain, felix=felix, ipvs_interface=frozenset({"worker"})
    )
    (found,) = platforms.combination_findings(faulty)
    assert "(FelixConfiguration default) meets a leftover interface kube-ipvs0" in found


def test_from_3_32_on_the_dataplane_follows_kube_proxy(platform: Platform) -> None:
    later = replace(platform, calico=(3, 32))
    env: dict[str, str | None] = {}
    assert platforms.nftables_mode("worker", env, later)[0] is True
    assert platforms.nftables_mode("worker", env, platform)[0] is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calico": (3, 10)}, "Calico 3.10 gives pods one family only"),
        ({"kubernetes": 20}, "Calico 3.31 does not work with Kubernetes 1.20"),
        ({"vxlan6": True, "calico": (3, 22)}, "upgrade to 3.23"),
        (
            {"kernels": {"control-plane": "5.10.0", "worker": "6.1", "worker2": "6.1"}},
            "kube-proxy in nftables mode on control-plane needs kernel 5.13, found 5.10.0",
        ),
    ],
)
def test_cfg_018_old_parts_are_named(
    platform: Platform, changes: dict[str, Any], words: str
) -> None:
    found = platforms.combination_findings(replace(platform, **changes))
    assert any(words in line for line in found), found


def test_cfg_018_ebpf_beside_ipvs(platform: Platform) -> None:
    faulty = replace(
        with_env(platform, "worker2", FELIX_BPFENABLED="true"),
        proxy_modes={**platform.proxy_modes, "worker2": "ipvs"},
    )
    (found,) = platforms.combination_findings(faulty)
    assert "eBPF dataplane (FELIX_BPFENABLED of calico-node) on worker2" in found


def test_cfg_018_a_crash_looping_calico_node_is_told(platform: Platform) -> None:
    sick = replace(
        platform.calico_nodes["worker"],
        ready=False,
        restarts=7,
        problem="CrashLoopBackOff: back-off 5m0s restarting failed container",
    )
    faulty = replace(platform, calico_nodes={**platform.calico_nodes, "worker": sick})
    (found,) = platforms.combination_findings(faulty)
    assert "calico-node on worker" in found
    assert "7 restarts) is not Ready: CrashLoopBackOff" in found


def test_cfg_018_a_family_without_netfilter_and_a_node_without_calico(platform: Platform) -> None:
    pods = {node: c for node, c in platform.calico_nodes.items() if node != "worker2"}
    faulty = replace(
        platform,
        calico_nodes=pods,
        netfilter={**platform.netfilter, "worker": frozenset(FAMILIES[:1])},
    )
    found = platforms.combination_findings(faulty)
    assert any("node worker has nothing in netfilter for IPv6" in line for line in found)
    assert any("node worker2 runs no calico-node" in line for line in found)
    assert len(found) == 2


def test_cfg_018_one_datastore_for_all(platform: Platform) -> None:
    (found,) = platforms.combination_findings(with_env(platform, "worker", DATASTORE_TYPE=""))
    assert "different datastores on different nodes (etcdv3, kubernetes)" in found


def test_felix_takes_environment_over_node_over_default() -> None:
    felix = {"default": {"ipv6Support": False}, "node.w": {"ipv6Support": True}}
    assert platforms.felix_setting("ipv6Support", "w", {}, felix)[0] == "True"
    assert platforms.felix_setting("ipv6Support", "x", {}, felix)[0] == "False"
    value, where = platforms.felix_setting("ipv6Support", "w", {"felix_IPv6Support": "no"}, felix)
    assert (value, where) == ("no", "felix_IPv6Support of calico-node")
    assert platforms.felix_setting("ipv6Support", "w", {}, {}) == (None, "Felix's default")


def test_booleans_as_felix_reads_them() -> None:
    assert platforms.truth("Y", default=False) is True
    assert platforms.truth("0", default=True) is False
    assert platforms.truth(None, default=True) is True
    assert platforms.truth("perhaps", default=True) is None


def test_releases_of_calico() -> None:
    assert platforms.calico_release("v3.31.0") == (3, 31)
    with pytest.raises(ValueError, match="no release of Calico"):
        platforms.calico_release("master")
