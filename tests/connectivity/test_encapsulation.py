"""CONN-007 and RTE-006 on captured headers and on devices as the kernel tells them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from clusters.spec import Encapsulation
from helpers.encapsulation import VxlanDevice, Wrapping, vxlan_findings, wrapping_findings
from helpers.fabric import Crossing, Outer
from helpers.oneway import OneWay
from helpers.paths import Path

NODES = {"worker": ip_interface("fd00:10:243::3/64"), "worker2": ip_interface("fd00:10:243::4/64")}
ROUTED = {**NODES, "worker2": ip_interface("fd00:10:99::4/64")}
PODS = (ip_address("fd00:10:244:1::5"), ip_address("fd00:10:244:2::5"))
TUNNEL = "VXLAN (UDP 4789)"
WRAPPED = Outer(NODES["worker"].ip, NODES["worker2"].ip, TUNNEL)
NATIVE = Outer(*PODS, None)


def crossing(*frames: Outer) -> Crossing:
    agent: Any = None
    path = Path(agent, agent, ("pod on worker", "pod on worker2"), ("worker", "worker2"))
    flow = OneWay(3, (0, 1, 2), (0, 1, 2), frozenset(), frozenset())
    return Crossing(path, *PODS, flow, frames)


@pytest.mark.parametrize(
    ("mode", "nodes", "frame"),
    [
        (Encapsulation.VXLAN, NODES, WRAPPED),
        (Encapsulation.VXLAN_CROSS_SUBNET, NODES, NATIVE),
        (Encapsulation.VXLAN_CROSS_SUBNET, ROUTED, replace(WRAPPED, target=ROUTED["worker2"].ip)),
    ],
    ids=["always", "same subnet", "other subnet"],
)
def test_what_is_promised_gives_no_findings(
    mode: Encapsulation, nodes: dict[str, Any], frame: Outer
) -> None:
    assert wrapping_findings([crossing(frame)], Wrapping(mode, nodes)) == []


def test_a_native_packet_is_found_where_a_tunnel_is_promised() -> None:
    (finding,) = wrapping_findings([crossing(NATIVE)], Wrapping(Encapsulation.VXLAN, NODES))
    assert "in no tunnel, expected VXLAN" in finding


def test_a_tunnel_is_found_where_the_subnet_is_shared() -> None:
    promised = Wrapping(Encapsulation.VXLAN_CROSS_SUBNET, NODES)
    (finding,) = wrapping_findings([crossing(WRAPPED)], promised)
    assert "in VXLAN (UDP 4789), expected none" in finding


def test_an_outer_header_of_the_other_family_is_found() -> None:
    frame = Outer(ip_address("10.243.0.3"), ip_address("10.243.0.4"), TUNNEL)
    (finding,) = wrapping_findings([crossing(frame)], Wrapping(Encapsulation.VXLAN, NODES))
    assert "outer header from 10.243.0.3 to 10.243.0.4, expected from fd00:10:243::3" in finding


def test_packets_that_never_cross_are_found() -> None:
    (finding,) = wrapping_findings([crossing()], Wrapping(Encapsulation.VXLAN, NODES))
    assert "not seen between the nodes" in finding


ADDRESSES = {node: interface.ip for node, interface in NODES.items()}
AT = {"worker": ip_address("fd00:10:244:1::"), "worker2": ip_address("fd00:10:244:2::")}
MAC = "66:00:00:00:00:02"
GOOD = VxlanDevice((AT["worker"],), {MAC: ADDRESSES["worker2"]}, {AT["worker2"]: MAC})


def findings(device: VxlanDevice) -> list[str]:
    return vxlan_findings({"worker": device}, AT, ADDRESSES)


def test_a_device_that_knows_its_peer() -> None:
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (VxlanDevice(None, {}, {}), "has no device vxlan-v6.calico"),
        (replace(GOOD, addresses=()), "has none, Calico gave it fd00:10:244:1::"),
        (replace(GOOD, neighbours={}), "no neighbour entry on vxlan-v6.calico for worker2"),
        (replace(GOOD, forwarding={}), f"frames for worker2 ({MAC}) are sent to nobody"),
    ],
    ids=["no device", "no address", "no neighbour", "no forwarding entry"],
)
def test_what_is_missing_is_named(device: VxlanDevice, said: str) -> None:
    (finding,) = findings(device)
    assert said in finding
