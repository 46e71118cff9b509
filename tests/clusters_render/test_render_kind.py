"""The kind configuration, and what each era of Kubernetes adds to it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from clusters.eras import ERAS, GATE, GateRule, era_of
from clusters.kernel import KernelFacts
from clusters.render_kind import kind_config, kind_refusal, kind_yaml, node_names
from clusters.spec import ClusterSpec, Version, load_profile

IMAGE = "dsc/node:test"
PATIENCE = {"timeouts": {"kubernetesAPICall": "4m0s"}}
PODS = "10.244.0.0/16,fd00:10:244::/56"
SERVICES = "10.96.0.0/16,fd00:10:96::/112"


def spec_of(version: str, **overrides: str) -> ClusterSpec:
    """The origin's profile (ipvs, which every era has) at some release."""
    masks = {"node_cidr_mask.ipv6": "24", "pod_cidrs.ipv6": "fc00::/20"}
    old = masks if version.startswith("1.16.") else {}
    return load_profile("blog-3.11", {"kubernetes": version, **old, **overrides})


def patches(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    loaded = [yaml.safe_load(text) for text in config["kubeadmConfigPatches"]]
    assert len({p["kind"] for p in loaded}) == len(loaded)
    return {p["kind"]: p for p in loaded}


def test_native_profile_as_kind_reads_it(kernel_without_ipvs: KernelFacts) -> None:
    config = kind_config(load_profile("native").resolved(kernel_without_ipvs), IMAGE)
    assert config["apiVersion"] == "kind.x-k8s.io/v1alpha4"
    assert config["networking"] == {
        "ipFamily": "dual",
        "podSubnet": PODS,
        "serviceSubnet": SERVICES,
        "disableDefaultCNI": True,
        "kubeProxyMode": "nftables",
        "dnsSearch": [],
    }
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker"]
    assert {node["image"] for node in config["nodes"]} == {IMAGE}
    assert config["nodes"][1]["labels"] == {
        "dualstack-conformance/group": "workers",
        "dualstack-conformance/proxy-mode": "nftables",
        "dualstack-conformance/kernel": "host",
    }
    assert patches(config) == {
        "ClusterConfiguration": {
            "kind": "ClusterConfiguration",
            "controllerManager": {
                "extraArgs": {"node-cidr-mask-size-ipv4": "24", "node-cidr-mask-size-ipv6": "64"}
            },
        },
        **{kind: {"kind": kind, **PATIENCE} for kind in ("InitConfiguration", "JoinConfiguration")},
    }


@pytest.mark.parametrize(("version", "patient"), [("1.35.4", False), ("1.36.0", True)])
def test_kubeadm_waits_longer_only_where_its_configuration_can_say_so(
    version: str, patient: bool
) -> None:
    """kind writes v1beta4, which has timeouts, from Kubernetes 1.36 on."""
    kinds = patches(kind_config(spec_of(version), IMAGE))
    assert ("JoinConfiguration" in kinds) is patient
    assert ("InitConfiguration" in kinds) is patient


def test_ipv6_primary_puts_ipv6_first_in_every_pair(kernel_with_ipvs: KernelFacts) -> None:
    networking = kind_config(load_profile("ipv6-primary").resolved(kernel_with_ipvs), IMAGE)[
        "networking"
    ]
    assert networking["podSubnet"] == "fd00:10:244::/56,10.244.0.0/16"
    assert networking["serviceSubnet"] == "fd00:10:96::/112,10.96.0.0/16"


def test_unresolved_proxy_mode_is_not_rendered() -> None:
    with pytest.raises(ValueError, match="still auto"):
        kind_config(load_profile("native"), IMAGE)


@pytest.mark.parametrize(
    ("version", "cgroup_v1", "written"),
    [("1.36.4", True, True), ("1.36.4", False, False), ("1.30.4", True, False)],
)
def test_kubelet_is_told_of_cgroup_v1_only_where_it_must(
    version: str, cgroup_v1: bool, written: bool
) -> None:
    config = kind_config(spec_of(version), IMAGE, cgroup_v1=cgroup_v1)
    assert ("KubeletConfiguration" in patches(config)) is written
    if written:
        assert patches(config)["KubeletConfiguration"]["failCgroupV1"] is False


def test_oom_scores_are_left_alone_on_request() -> None:
    config = kind_config(spec_of("1.36.4"), IMAGE, restrict_oom_score_adj=True)
    assert len(config["containerdConfigPatches"]) == 2
    assert all("restrict_oom_score_adj = true" in t for t in config["containerdConfigPatches"])
    assert "containerdConfigPatches" not in kind_config(spec_of("1.36.4"), IMAGE)


def test_nodes_with_their_own_kernel_are_not_kinds() -> None:
    spec = load_profile("blog-3.11")
    guest = {"name": "guest", "role": "worker", "count": 2, "proxy_mode": "ipvs", "kernel": "guest"}
    spec = spec.changed(nodes=[*spec.model_dump(mode="json")["nodes"], guest])
    assert len(kind_config(spec, IMAGE)["nodes"]) == 3


def test_node_names_are_those_that_kind_gives() -> None:
    spec = load_profile("blog-3.11", {"nodes.control-plane.count": "2"})
    assert list(node_names(spec, "dsc-1")) == [
        "dsc-1-control-plane",
        "dsc-1-control-plane2",
        "dsc-1-worker",
        "dsc-1-worker2",
    ]
    assert node_names(spec, "x")["x-worker2"].name == "workers"


def test_text_round_trips_and_reads_well() -> None:
    config = kind_config(spec_of("1.22.3"), IMAGE)
    text = kind_yaml(config)
    assert yaml.safe_load(text) == config
    assert "\n  kind: ClusterConfiguration\n" in text


ALL_MINORS = [f"1.{minor}.3" for minor in range(16, 38)]


@pytest.mark.parametrize("version", ALL_MINORS)
def test_gate_obeys_the_rule_of_its_release(version: str) -> None:
    """CFG-002: true in 1.16-1.20, not false in 1.21-1.24, absent from 1.25 on."""
    minor = Version.parse(version).minor
    text = kind_yaml(kind_config(spec_of(version), IMAGE, cgroup_v1=True))
    gates = yaml.safe_load(text).get("featureGates", {})
    if minor <= 20:
        assert gates == {GATE: True}
    elif minor <= 24:
        assert gates.get(GATE) is not False
    else:
        assert GATE not in text


@pytest.mark.parametrize("version", ALL_MINORS)
def test_kubeadm_is_told_of_the_gate_only_while_it_needs_it(version: str) -> None:
    """Needed up to 1.20; kubeadm 1.24 does not know it any more (#106648)."""
    cluster = patches(kind_config(spec_of(version), IMAGE))["ClusterConfiguration"]
    expected = {GATE: True} if Version.parse(version).minor <= 20 else None
    assert cluster.get("featureGates") == expected


@pytest.mark.parametrize("version", ALL_MINORS)
def test_pairs_are_flags_up_to_1_24_and_nowhere_after(version: str) -> None:
    spec = spec_of(version)
    rendered = patches(kind_config(spec, IMAGE))
    args = rendered["ClusterConfiguration"]["controllerManager"]["extraArgs"]
    if Version.parse(version).minor <= 24:
        pods = spec.pod_cidrs.pair(spec.families)
        assert args["cluster-cidr"] == pods
        assert args["service-cluster-ip-range"] == SERVICES
        apiserver = rendered["ClusterConfiguration"]["apiServer"]["extraArgs"]
        assert apiserver == {"service-cluster-ip-range": SERVICES}
        assert rendered["KubeProxyConfiguration"]["clusterCIDR"] == pods
    else:
        assert set(args) == {"node-cidr-mask-size-ipv4", "node-cidr-mask-size-ipv6"}
        assert "apiServer" not in rendered["ClusterConfiguration"]
        assert "KubeProxyConfiguration" not in rendered


@pytest.mark.parametrize("version", ALL_MINORS)
def test_mask_flags_per_family_exist_since_1_17(version: str) -> None:
    """#79993; 1.16 has one mask for both, which is why the origin's IPv6 CIDR was a /24."""
    args = patches(kind_config(spec_of(version), IMAGE))["ClusterConfiguration"][
        "controllerManager"
    ]["extraArgs"]
    masks = {name: value for name, value in args.items() if "mask" in name}
    if version.startswith("1.16."):
        assert masks == {"node-cidr-mask-size": "24"}
    else:
        assert masks == {"node-cidr-mask-size-ipv4": "24", "node-cidr-mask-size-ipv6": "64"}


@pytest.mark.parametrize("version", ALL_MINORS)
def test_pairs_follow_the_family_order(version: str) -> None:
    spec = spec_of(version, families="ipv6,ipv4")
    for line in kind_yaml(kind_config(spec, IMAGE)).splitlines():
        if "," in line and "/" in line:
            assert line.split(",")[1].strip().startswith("10."), line


@pytest.mark.parametrize("version", ALL_MINORS)
def test_the_plural_flag_that_never_existed_is_not_written(version: str) -> None:
    assert "cluster-cidrs" not in kind_yaml(kind_config(spec_of(version), IMAGE))


@pytest.mark.parametrize("version", ["1.16.3", "1.20.3", "1.22.3", "1.36.4"])
def test_no_placeholder_is_left(version: str) -> None:
    text = kind_yaml(kind_config(spec_of(version), IMAGE, cgroup_v1=True))
    assert not any(mark in text for mark in ("__", "{{", "${", "<", "TODO", "None", "auto"))


def test_eras_cover_every_release_without_gaps() -> None:
    assert [era.first for era in ERAS] == sorted({era.first for era in ERAS})
    assert era_of(Version(1, 16, 0)) is ERAS[0]
    assert era_of(Version(1, 99, 0)).gate is GateRule.ABSENT
    with pytest.raises(ValueError, match="no dual stack"):
        era_of(Version(1, 15, 12))


@pytest.mark.parametrize(("version", "refused"), [("1.19.16", True), ("1.20.15", False)])
def test_kind_cannot_create_what_kubelet_has_no_address_pair_for(
    version: str, refused: bool
) -> None:
    assert bool(kind_refusal(spec_of(version))) is refused
