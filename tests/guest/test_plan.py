"""What a guest is told: names, addresses, kernel command line, settings, how to join."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from clusters import outside
from clusters.guest import plan as plans
from clusters.guest.plan import GuestPlan, guest_plans
from clusters.images import GuestFiles
from clusters.spec import ClusterSpec
from helpers.model import FAMILIES, DualAddresses

CLUSTER = "dsc-1124-0830-abcd-conformance"
TOKEN = "abcdef.0123456789abcdef"  # made up


@pytest.fixture
def plan(spec: ClusterSpec) -> GuestPlan:
    return guest_plans(spec, CLUSTER)[0]


def with_guests(spec: ClusterSpec, count: int, **fields: object) -> ClusterSpec:
    groups = spec.model_dump(mode="json")["nodes"]
    groups[-1]["count"] = count
    return spec.changed(nodes=groups, **fields)


def test_nodes_are_named_after_their_group(spec: ClusterSpec) -> None:
    names = [each.name for each in guest_plans(with_guests(spec, 2), CLUSTER)]
    assert names == [f"{CLUSTER}-ipvs", f"{CLUSTER}-ipvs2"]


def test_a_profile_without_guests_has_none(spec: ClusterSpec) -> None:
    assert guest_plans(spec.without_guests(), CLUSTER) == []


@pytest.mark.parametrize(
    "networks",
    [
        {"ipv4": "10.243.0.0/24", "ipv6": "fd00:10:243::/64"},
        {"ipv4": "10.243.0.0/28", "ipv6": "fd00:10:243::/124"},
    ],
)
def test_addresses_are_nobody_elses(spec: ClusterSpec, networks: dict[str, str]) -> None:
    spec = with_guests(spec, 3, node_cidrs=networks)
    guests = [each.addresses for each in guest_plans(spec, CLUSTER)]
    for family in FAMILIES:
        network = spec.node_cidr(family)
        taken = [outside.node_network_addresses(spec).require(family)]
        taken += [addresses.require(family) for addresses in guests]
        # The engine gives the first ones: to its bridge and to the nodes that are containers.
        taken += [network[number] for number in range(2 + spec.host_node_count)]
        assert len(set(taken)) == len(taken)
        assert all(address in network for address in taken)


def test_addresses_come_in_the_order_of_the_families(spec: ClusterSpec) -> None:
    swapped = spec.changed(families=["ipv6", "ipv4"])
    (plan,) = guest_plans(swapped, CLUSTER)
    assert plan.addresses.families == swapped.families
    node_ip = next(
        each["value"]
        for each in plans.join_configuration(plan, swapped, TOKEN)["nodeRegistration"][
            "kubeletExtraArgs"
        ]
        if each["name"] == "node-ip"
    )
    assert [ip_address(part) for part in node_ip.split(",")] == list(plan.addresses.all)


def test_devices_fit_into_interface_names_and_are_found_by_cluster(spec: ClusterSpec) -> None:
    devices = [
        device
        for name in (CLUSTER, "dsc-other")
        for each in guest_plans(with_guests(spec, 2), name)
        for device in (each.device, each.port)
    ]
    assert len(set(devices)) == 8
    assert all(len(device) <= 15 for device in devices)
    mine = [device for device in devices if device.startswith(plans.device_prefix(CLUSTER))]
    assert mine == devices[:4]


def test_mac_address_is_local_and_unicast(plan: GuestPlan) -> None:
    first = int(plan.mac.split(":")[0], 16)
    assert first & 0b11 == 0b10
    assert len(plan.mac.split(":")) == 6


def test_kernel_gets_disk_cable_and_nothing_else_of_the_host(
    plan: GuestPlan, files: GuestFiles, tmp_path: Path
) -> None:
    arguments = plans.kernel_arguments(plan, files, tmp_path)
    assert arguments[0] == str(files.kernel)
    assert f"ubd0={tmp_path}/disk.cow,{files.disk}" in arguments
    assert f"vec0:transport=raw,ifname={plan.device},depth=64,gro=1" in arguments
    assert f"hostfs={tmp_path}/host" in arguments


def test_settings_are_shell_assignments(plan: GuestPlan, spec: ClusterSpec) -> None:
    read = dict(
        shlex.split(line)[0].split("=", 1) for line in plans.settings(plan, spec).splitlines()
    )
    assert read["NODE"] == plan.name
    assert read["ADDRESSES"] == "10.243.0.200/24 fd00:10:243::c8/64"
    # Every node's default route leads to the outside host, in each family.
    assert read["GATEWAYS"] == "10.243.0.250 fd00:10:243::fa"
    assert len(read["MACHINE_ID"]) == 32


def test_hosts_know_themselves_and_the_control_plane_in_both_families(
    plan: GuestPlan, spec: ClusterSpec
) -> None:
    others = {"cp": DualAddresses.parse(["10.243.0.3", "fd00:10:243::3"])}
    lines = plans.hosts(plan, spec, others).splitlines()
    assert "10.243.0.3 cp" in lines
    assert "fd00:10:243::3 cp" in lines
    assert f"fd00:10:243::c8 {plan.name}" in lines


def test_node_registers_with_the_labels_that_choose_its_kube_proxy(
    plan: GuestPlan, spec: ClusterSpec
) -> None:
    registration = plans.join_configuration(plan, spec, TOKEN)["nodeRegistration"]
    labels = next(a for a in registration["kubeletExtraArgs"] if a["name"] == "node-labels")
    assert "dualstack-conformance/proxy-mode=ipvs" in labels["value"].split(",")
    assert registration["name"] == plan.name
    assert registration["taints"] == []


def test_discovery_trusts_the_cluster_and_carries_no_user() -> None:
    known = {"server": "https://127.0.0.1:1", "certificate-authority-data": "Q0E="}
    admin = {"clusters": [{"cluster": known}], "users": [{"user": {"client-key-data": "secret"}}]}
    read = yaml.safe_load(plans.discovery(yaml.safe_dump(admin), "cp:6443"))
    assert read["clusters"][0]["cluster"] == {
        "server": "https://cp:6443",
        "certificate-authority-data": "Q0E=",
    }
    assert "users" not in read


def test_token_is_for_nodes_only_and_ends(spec: ClusterSpec) -> None:
    secret = plans.token_secret(TOKEN, datetime(2026, 11, 24, 9, tzinfo=UTC))
    assert secret["metadata"]["name"] == "bootstrap-token-abcdef"
    assert secret["stringData"]["expiration"] == "2026-11-24T09:00:00Z"
    assert secret["stringData"]["auth-extra-groups"].endswith(":default-node-token")
    assert "usage-bootstrap-signing" not in secret["stringData"]
