"""Profiles: what is read, what is refused, and in which words."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clusters.images.versions import load_versions
from clusters.spec import PROFILES, ClusterSpec, SpecError, Version, load_profile, profile_names
from clusters.spec_types import Networks
from helpers.model import FAMILIES, Family

NATIVE = yaml.safe_load((PROFILES / "native.yaml").read_text())


def refusal(overrides: dict[str, str], profile: str = "native") -> str:
    with pytest.raises(SpecError) as error:
        load_profile(profile, overrides)
    return str(error.value)


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profile_is_valid_and_carries_its_file_name(name: str) -> None:
    spec = load_profile(name)
    assert spec.name == name
    assert spec.about
    assert spec.native is (name != "vxlan")
    assert ClusterSpec.model_validate_json(spec.model_dump_json()) == spec


def test_shipped_profiles_are_the_documented_ones() -> None:
    assert profile_names() == [
        "blog-3.11",
        "conformance",
        "ipv6-primary",
        "native",
        "quick",
        "vxlan",
    ]


def test_native_profile_is_one_control_plane_two_workers_ipv4_first() -> None:
    spec = load_profile("native")
    assert [(g.role, g.count) for g in spec.nodes] == [("control-plane", 1), ("worker", 2)]
    assert spec.primary is Family.IPV4
    assert (spec.nat_outgoing.ipv4, spec.nat_outgoing.ipv6) == (True, False)
    assert spec.bgp


def test_profile_without_versions_means_those_that_are_built() -> None:
    spec, built = load_profile("native"), load_versions()
    assert (f"v{spec.kubernetes}", f"v{spec.calico}") == (
        built.kubernetes.default,
        built.calico.default,
    )


def test_ipv6_primary_turns_every_pair_around() -> None:
    spec = load_profile("ipv6-primary")
    assert spec.pod_cidrs.pair(spec.families) == "fd00:10:244::/56,10.244.0.0/16"


def test_options_change_single_values() -> None:
    spec = load_profile(
        "native",
        {
            "kubernetes": "v1.35.4",
            "families": "ipv6,ipv4",
            "pod_cidrs.ipv6": "fd00:7::/56",
            "nodes.workers.count": "3",
            "nat_outgoing.ipv6": "true",
            "proxy_mode": "iptables",
            "mtu": "1450",
            "internet.ipv4": "192.0.2.0/25, 203.0.113.0/24",
        },
    )
    assert str(spec.kubernetes) == "1.35.4"
    assert spec.primary is Family.IPV6
    assert spec.pod_cidr(Family.IPV6) == IPv6Network("fd00:7::/56")
    assert spec.node_count == 4
    assert spec.nat_outgoing.ipv6
    assert spec.proxy_mode == "iptables"
    assert spec.mtu == 1450
    assert list(map(str, spec.internet.ipv4)) == ["192.0.2.0/25", "203.0.113.0/24"]


def test_profile_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**NATIVE, "name": "mine", "calico": "3.30.1"}))
    assert load_profile(str(path)).calico == Version(3, 30, 1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("a: [", "is not YAML"), ("- 1\n", "holds no fields"), ("", "holds no fields")],
)
def test_file_that_is_no_profile(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(SpecError, match=expected):
        load_profile(str(path))


def test_unknown_profile_names_the_close_one_and_all() -> None:
    with pytest.raises(SpecError, match="did you mean native") as error:
        load_profile("nativ")
    assert "blog-3.11, conformance, ipv6-primary, native, quick, vxlan" in str(error.value)


def test_missing_file_is_named() -> None:
    with pytest.raises(SpecError, match=r"no/such\.yaml"):
        load_profile("no/such.yaml")


REFUSED = [
    ({"podcidrs": "x"}, "podcidrs: unknown field: did you mean pod_cidrs?"),
    ({"pod_cidrs.ipv7": "x"}, "pod_cidrs.ipv7: unknown field"),
    ({"nodes.workers.roles": "x"}, "nodes.workers.roles: unknown field: did you mean role?"),
    ({"nodes.nobody.count": "2"}, "GROUP one of: control-plane, workers"),
    ({"name.x": "2"}, "name.x: no such field"),
    ({"nodes.workers.count": "0"}, "nodes.workers.count: must be greater than or equal to 1"),
    ({"nodes.workers.role": "boss"}, "nodes.workers.role: must be 'control-plane' or 'worker'"),
    ({"kubernetes": "1.36"}, "kubernetes: '1.36' is not a full version; e.g. kubernetes: "),
    ({"kubernetes": "1.15.9"}, "1.15.9 has no dual stack (1.16.0 was the first)"),
    ({"calico": "3.10.0"}, "3.10.0 has no dual stack (3.11.0 was the first)"),
    ({"families": "ipv4"}, "families: [ipv4] is not dual stack"),
    ({"families": "ipv4,ipv4"}, "list both once"),
    ({"pod_cidrs.ipv4": "fd00:1::/56"}, "pod_cidrs.ipv4: 'fd00:1::/56' is not an IPv4 network"),
    ({"pod_cidrs.ipv6": "10.1.0.0/16"}, "pod_cidrs.ipv6: '10.1.0.0/16' is not an IPv6 network"),
    ({"pod_cidrs.ipv6": "fd00::1/56"}, "fd00::1/56 has host bits set, write fd00::/56"),
    ({"pod_cidrs.ipv4": "10.244.0.0"}, "'10.244.0.0' has no prefix length"),
    ({"pod_cidrs.ipv6": "::ffff:10.0.0.0/112"}, "is IPv4-mapped"),
    ({"node_cidrs.ipv6": "fe80::/64"}, "fe80::/64 is link-local space"),
    ({"node_cidrs.ipv4": "127.0.0.0/24"}, "is loopback space"),
    (
        {"service_cidrs.ipv4": "10.244.128.0/20"},
        "pod_cidrs.ipv4, service_cidrs.ipv4: 10.244.0.0/16 and 10.244.128.0/20 overlap",
    ),
    ({"node_cidrs.ipv6": "fd00:10:244:1::/64"}, "pod_cidrs.ipv6, node_cidrs.ipv6:"),
    ({"node_cidrs.ipv4": "10.96.3.0/24"}, "service_cidrs.ipv4, node_cidrs.ipv4:"),
    ({"internet.ipv4": "192.0.2.0/24,192.0.2.0/25"}, "internet.ipv4: 192.0.2.0/24 and 192.0.2"),
    ({"internet.ipv6": "2a00::/32"}, "2a00::/32 may be a real network"),
    ({"pod_cidrs.ipv6": "fc00::/24"}, "a node mask of /64 is out of range for fc00::/24"),
    ({"node_cidr_mask.ipv6": "73"}, "it must be /56 to /72"),
    ({"node_cidr_mask.ipv6": "55"}, "a node mask of /55 is out of range"),
    ({"node_cidr_mask.ipv4": "33"}, "node_cidr_mask.ipv4: must be less than or equal to 32"),
    ({"node_cidr_mask.ipv6": "57"}, "holds 2 node ranges of /57, 3 nodes need one each"),
    ({"pod_cidrs.ipv4": "10.3.0.0/25", "node_cidr_mask.ipv4": "27"}, "use a prefix of /24"),
    ({"service_cidrs.ipv6": "fd00:10:96::/64"}, "kubeadm takes /108 to /124"),
    ({"service_cidrs.ipv4": "10.0.0.0/8"}, "kubeadm takes /12 to /28"),
    ({"node_cidrs.ipv4": "10.243.0.0/29", "nodes.workers.count": "3"}, "too small for 4 nodes"),
    ({"encapsulation.ipv6": "ipip"}, "encapsulation.ipv6: ipip does not exist for IPv6"),
    ({"encapsulation.ipv6": "ipip-crosssubnet"}, "ipip-crosssubnet does not exist for IPv6"),
    ({"encapsulation.ipv6": "vxlan", "calico": "3.22.0"}, "exists since Calico 3.23"),
    ({"bgp": "false"}, "without encapsulation only BGP knows the routes"),
    ({"bgp": "maybe"}, "bgp: must be a valid boolean"),
    (
        {"bgp": "false", "encapsulation.ipv4": "ipip", "encapsulation.ipv6": "vxlan"},
        "ipip needs BIRD",
    ),
    ({"mtu": "1279"}, "mtu: must be greater than or equal to 1280"),
    ({"calico_dataplane": "nftables", "proxy_mode": "ipvs"}, "cannot run beside kube-proxy ipvs"),
    ({"calico_dataplane": "nftables", "calico": "3.28.0"}, "no nftables dataplane (3.29 has)"),
    ({"proxy_mode": "nftables", "kubernetes": "1.30.4"}, "on by default since Kubernetes 1.31"),
    ({"proxy_mode": "iptables", "kubernetes": "1.17.4"}, "dual stack since Kubernetes 1.18"),
    ({"nodes.workers.proxy_mode": "ipvs"}, "share one kube-proxy configuration"),
    ({"nodes.control-plane.kernel": "guest"}, "no control plane on the host's kernel"),
    ({"kubernetes": "1.16.4"}, "has one node mask for both families"),
]


@pytest.mark.parametrize(("overrides", "expected"), REFUSED, ids=[e for _, e in REFUSED])
def test_bad_value_is_refused_with_field_and_advice(
    overrides: dict[str, str], expected: str
) -> None:
    assert expected in refusal(overrides)


def test_all_problems_are_told_at_once_also_those_between_good_fields() -> None:
    message = refusal(
        {
            "kubernets": "1.36.4",
            "mtu": "9",
            "nodes.nobody.count": "2",
            "service_cidrs.ipv4": "10.244.0.0/20",
            "encapsulation.ipv6": "ipip",
        }
    )
    for field in ("kubernets", "mtu", "nodes.nobody.count", "service_cidrs.ipv4", "encapsulation"):
        assert f"{field}" in message
    assert "5 problems" in message


def test_missing_field_comes_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in NATIVE.items() if k != "pod_cidrs"}))
    with pytest.raises(SpecError, match=r"pod_cidrs: is missing; e.g. pod_cidrs: \{ipv4: 10.244"):
        load_profile(str(path))


def test_unquoted_version_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "number.yaml"
    path.write_text((PROFILES / "native.yaml").read_text() + "\nkubernetes: 1.20\n")
    with pytest.raises(SpecError, match=r"1\.2 is not a full version; quote it"):
        load_profile(str(path))


def test_same_group_twice_is_refused() -> None:
    nodes = [*NATIVE["nodes"], NATIVE["nodes"][1]]
    with pytest.raises(SpecError, match="2 groups are called 'workers'"):
        load_profile("native").changed(nodes=nodes)


def test_a_worker_may_differ_when_its_kernel_is_its_own() -> None:
    guest = {"name": "ipvs", "role": "worker", "count": 1, "proxy_mode": "ipvs", "kernel": "guest"}
    spec = load_profile("native").changed(nodes=[*NATIVE["nodes"], guest])
    assert spec.node_count == 4
    assert spec.host_node_count == 3


def test_changed_is_checked_like_a_profile() -> None:
    spec = load_profile("native")
    node_cidrs = {"ipv4": "172.18.0.0/16", "ipv6": "fc00:f853:ccd:e793::/64"}
    assert spec.changed(node_cidrs=node_cidrs).node_cidr(Family.IPV4) == IPv4Network(
        "172.18.0.0/16"
    )
    with pytest.raises(SpecError, match="overlap"):
        spec.changed(node_cidrs={"ipv4": "10.244.0.0/24", "ipv6": "fd00:10:243::/64"})


def test_spec_built_directly_is_checked_too() -> None:
    data = load_profile("native").model_dump()
    with pytest.raises(ValidationError, match="is not dual stack"):
        ClusterSpec.model_validate({**data, "families": ["ipv4"]})


def test_spec_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_profile("native").bgp = False  # type: ignore[misc]


v4_networks = st.builds(
    lambda a, p: IPv4Network((a >> (32 - p) << (32 - p), p)),
    st.integers(1 << 24, (100 << 24) - 1),
    st.integers(8, 28),
)
v6_networks = st.builds(
    lambda a, p: IPv6Network(((0xFD00 << 112) + (a >> (128 - p) << (128 - p)), p)),
    st.integers(0, (1 << 112) - 1),
    st.integers(24, 120),
)


@given(v4=v4_networks, v6=v6_networks)
def test_canonical_networks_survive_text(v4: IPv4Network, v6: IPv6Network) -> None:
    networks = Networks.model_validate({"ipv4": str(v4), "ipv6": str(v6)})
    assert (networks.ipv4, networks.ipv6) == (v4, v6)


@given(network=v4_networks | v6_networks, data=st.data())
def test_host_bits_are_always_refused_and_the_right_network_told(
    network: IPv4Network | IPv6Network, data: st.DataObject
) -> None:
    host = data.draw(st.integers(1, network.num_addresses - 1))
    family = Family.of(network)
    text = f"{network.network_address + host}/{network.prefixlen}"
    good = {"ipv4": "10.0.0.0/16", "ipv6": "fd00::/56"}
    with pytest.raises(ValidationError, match=f"host bits set, write {network}"):
        Networks.model_validate({**good, str(family): text})


@given(v6=v6_networks, mask=st.integers(1, 128))
def test_node_mask_is_accepted_exactly_when_the_controller_manager_accepts_it(
    v6: IPv6Network, mask: int
) -> None:
    """cidr_set.go: 0 <= node mask - cluster mask <= 16; and 4 nodes need 4 ranges."""
    data = load_profile("native", {"nodes.workers.count": "3"}).model_dump(mode="json")
    data["pod_cidrs"]["ipv6"], data["node_cidr_mask"]["ipv6"] = str(v6), mask
    difference = mask - v6.prefixlen
    possible = 0 <= difference <= 16 and 2**difference >= 4
    try:
        ClusterSpec.model_validate(data)
        told = ""
    except ValidationError as error:
        told = str(error)
    assert ("node_cidr_mask.ipv6" in told) is not possible


@given(a=v4_networks, b=v4_networks)
def test_overlap_is_refused_exactly_when_there_is_one(a: IPv4Network, b: IPv4Network) -> None:
    data = load_profile("native").model_dump(mode="json")
    data["pod_cidrs"]["ipv4"], data["service_cidrs"]["ipv4"] = str(a), str(b)
    try:
        ClusterSpec.model_validate(data)
        told = ""
    except ValidationError as error:
        told = str(error)
    assert ("pod_cidrs.ipv4, service_cidrs.ipv4" in told) is a.overlaps(b)


def test_every_family_has_the_same_rules() -> None:
    """A rule that exists for one family only would hide behind the other."""
    for family in FAMILIES:
        small = {Family.IPV4: "10.99.0.0/30", Family.IPV6: "fd00:99::/126"}[family]
        message = refusal({f"service_cidrs.{family}": small})
        assert f"service_cidrs.{family}: {small} is out of range" in message
        message = refusal({f"node_cidrs.{family}": small})
        assert f"node_cidrs.{family}: {small} is too small" in message
