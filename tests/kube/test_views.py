"""Views of API objects and of Calico's resources."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from helpers.calico import Block, IPPool, NodeNetwork
from helpers.model import DualAddresses, Family, Verdict
from helpers.views import NodeView, PodView


def test_pod_view_keeps_the_order_of_the_api() -> None:
    pod = PodView.from_api(
        {
            "metadata": {"name": "p", "namespace": "a", "deletionTimestamp": "now"},
            "spec": {"nodeName": "n"},
            "status": {
                "podIP": "10.0.0.1",
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    assert pod.addresses.families == (Family.IPV4, Family.IPV6)
    assert pod.address(Family.IPV6) == ip_address("fd00:0::1")
    assert pod.ready
    assert pod.deleting
    assert pod.host_ips == ()


def test_a_pod_that_waits_says_why() -> None:
    waiting = {"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}}}
    pod = PodView.from_api(
        {"metadata": {"name": "p"}, "status": {"containerStatuses": [{}, waiting]}}
    )
    assert pod.waiting == "ErrImageNeverPull: no image"
    assert pod.pod_ips == ()


def test_node_view_lists_internal_addresses_only() -> None:
    node = NodeView.from_api(
        {
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00::/64"]},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "172.18.0.2"},
                    {"type": "Hostname", "address": "n"},
                    {"type": "InternalIP", "address": "fc00::2"},
                ]
            },
        }
    )
    assert node.internal_ips.families == (Family.IPV4, Family.IPV6)
    assert node.pod_cidrs[1] == ip_network("fd00::/64")
    assert node.control_plane


def test_a_missing_family_is_named_with_what_is_there() -> None:
    with pytest.raises(LookupError, match=r"no ipv6 address among: 10\.0\.0\.1"):
        DualAddresses.parse(["10.0.0.1"]).require(Family.IPV6)


def test_pool_defaults_are_those_of_the_api() -> None:
    pool = IPPool.from_api({"metadata": {"name": "p"}, "spec": {"cidr": "fd00:10:244::/56"}})
    assert pool.family is Family.IPV6
    assert pool.block_size == 122
    assert not pool.disabled
    assert not pool.encapsulated
    assert pool.assignment_mode == "Automatic"


@pytest.mark.parametrize(
    ("cidr", "expected"), [("10.244.1.0/30", "10.244.1.2"), ("fd00::/126", "fd00::2")]
)
def test_block_names_the_pod_of_each_address(cidr: str, expected: str) -> None:
    block = Block.from_api(
        {
            "spec": {
                "cidr": cidr,
                "affinity": "host:n1",
                "allocations": [None, None, 0, None],
                "attributes": [
                    {
                        "handle_id": "h",
                        "secondary": {"namespace": "a", "pod": "p", "node": "n1"},
                    }
                ],
            }
        }
    )
    (allocation,) = block.allocations
    assert allocation.address == ip_address(expected)
    assert allocation.pod == "a/p"
    assert block.node == "n1"


def test_node_network_has_no_address_that_is_not_annotated() -> None:
    network = NodeNetwork.from_annotations({"projectcalico.org/IPv4Address": "172.18.0.2/16"})
    assert network.address(Family.IPV4) == ip_address("172.18.0.2")
    assert network.address(Family.IPV6) is None


def test_worst_verdict_wins() -> None:
    assert Verdict.worst([Verdict.PASS, Verdict.BLOCKED, Verdict.SKIPPED]) is Verdict.BLOCKED
    assert Verdict.worst([]) is Verdict.PASS
