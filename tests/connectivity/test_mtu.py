"""CONN-008: which MTU is right, and what the two echoes around it prove."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from helpers.calico import IPPool
from helpers.findings import told
from helpers.model import Family, Protocol
from helpers.mtu import echo_size, mtu_findings, overheads, passing_findings
from helpers.probes import Observation, Outcome, Probe

PROBE = Probe(Protocol.ICMP, ip_address("fd00::5"))
PASSED = Observation(PROBE, Outcome.REACHED)
LOST = Observation(PROBE, Outcome.TIMEOUT, error="nothing for 2 s after sending")
TOO_LARGE = Observation(
    PROBE, Outcome.UNREACHABLE, error="EMSGSIZE (Message too long) after sending"
)


def pool(cidr: str, **modes: str) -> IPPool:
    return IPPool.from_api({"metadata": {"name": cidr}, "spec": {"cidr": cidr, **modes}})


@pytest.mark.parametrize(
    ("pools", "felix", "expected"),
    [
        ([pool("10.244.0.0/16"), pool("fd00::/56")], {}, 1500),
        ([pool("10.244.0.0/16", ipipMode="Always"), pool("fd00::/56")], {}, 1480),
        ([pool("10.244.0.0/16", vxlanMode="CrossSubnet"), pool("fd00::/56")], {}, 1450),
        (
            [pool("10.244.0.0/16", ipipMode="Always"), pool("fd00::/56", vxlanMode="Always")],
            {},
            1430,
        ),
        ([pool("10.244.0.0/16")], {"wireguardEnabled": True}, 1440),
        ([pool("10.244.0.0/16")], {"wireguardEnabledV6": True}, 1420),
    ],
)
def test_the_largest_overhead_counts_for_both_families(
    pools: list[IPPool], felix: dict[str, object], expected: int
) -> None:
    added = overheads(pools, felix)

    assert mtu_findings("pod", expected, 1500, added) == []
    assert mtu_findings("pod", expected + 1, 1500, added)
    assert mtu_findings("pod", expected - 1, 1500, added)


def test_an_mtu_beyond_the_fabric_is_found() -> None:
    """Fault: veth_mtu 9000 on a fabric of 1500."""
    (finding,) = mtu_findings("pod on worker", 9000, 1500, {})

    assert "pod on worker: eth0 has MTU 9000, expected 1500 (the node's 1500)" in finding
    assert "larger packets than the nodes' network carries" in finding
    assert "set veth_mtu in the ConfigMap calico-config" in finding


def test_an_mtu_that_wastes_room_tells_the_encapsulation() -> None:
    (finding,) = mtu_findings("pod", 1430, 1500, {"IPIP of pool v4": 20})

    assert "expected 1480 (the node's 1500 less 20 for IPIP of pool v4)" in finding
    assert "smaller than it could be" in finding


def test_a_declared_mtu_may_be_smaller_and_never_larger() -> None:
    assert mtu_findings("pod", 1400, 1500, {}, declared=1400) == []
    assert "1400 declared by the profile" in told(
        mtu_findings("pod", 1500, 1500, {}, declared=1400)
    )
    assert mtu_findings("pod", 9000, 1500, {}, declared=9000)


@pytest.mark.parametrize(("family", "payload"), [(Family.IPV4, 1472), (Family.IPV6, 1452)])
def test_the_echo_fills_the_packet(family: Family, payload: int) -> None:
    assert echo_size(1500, family) == payload


def test_a_packet_of_the_mtu_passes_and_a_larger_one_is_refused() -> None:
    assert passing_findings("a -> b", 1500, PASSED, TOO_LARGE) == []


def test_a_link_that_carries_less_is_found() -> None:
    (finding,) = passing_findings("a -> b", 1500, LOST, TOO_LARGE)

    assert (
        "a -> b: an unfragmented IPv6 packet of 1500 bytes, the pod's own MTU, does not pass"
        in (finding)
    )


@pytest.mark.parametrize("beyond", [PASSED, LOST])
def test_a_sender_that_fragments_after_all_is_found(beyond: Observation) -> None:
    (finding,) = passing_findings("a -> b", 1500, PASSED, beyond)

    assert "a packet of 1501 bytes that must not be fragmented was not refused" in finding
