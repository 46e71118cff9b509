"""Judgements over both ends of a pod's veth, on output recorded from `ip -j`."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, ip_address

import pytest

from helpers.findings import told
from helpers.model import FAMILIES, DualAddresses, Family
from helpers.pod_netns import (
    VIRTUAL_GATEWAY,
    HostEnd,
    Link,
    PodEnd,
    address_findings,
    gateway_findings,
    resolution_findings,
)
from helpers.podview import Told, identity_findings

API = DualAddresses.parse(["10.244.1.5", "fd00:10:244:1::5"])
GATEWAY = IPv6Address("fe80::ecee:eeff:feee:eeee")
MAC = "ee:ee:ee:ee:ee:ee"


def info(local: str, prefixlen: int, scope: str, **flags: bool) -> dict[str, object]:
    return {"local": local, "prefixlen": prefixlen, "scope": scope, **flags}


OWN = [
    info("10.244.1.5", 32, "global"),
    info("fd00:10:244:1::5", 128, "global"),
    info("fe80::5c8f:aff:fe00:1", 64, "link"),
]


def pod_end(*infos: dict[str, object]) -> PodEnd:
    entry = {"ifname": "eth0", "address": "5e:8f:0a:00:00:01", "mtu": 1500}
    return PodEnd(
        link=Link.from_ip({**entry, "addr_info": list(infos) or OWN}),
        defaults={
            Family.IPV4: ((VIRTUAL_GATEWAY, "eth0"),),
            Family.IPV6: ((GATEWAY, "eth0"),),
        },
        neighbours={VIRTUAL_GATEWAY: MAC, GATEWAY: MAC},
    )


def host_end(*infos: dict[str, object]) -> HostEnd:
    entry = {"ifname": "cali12345", "address": MAC, "mtu": 1500}
    return HostEnd(
        link=Link.from_ip({**entry, "addr_info": list(infos) or [info(str(GATEWAY), 64, "link")]}),
        proxy={Family.IPV4: "1", Family.IPV6: "1"},
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_healthy_ends_give_no_findings(family: Family) -> None:
    end, host = pod_end(), host_end()
    gateway = end.gateway(family)

    assert address_findings("pod on n", end, API, family) == []
    assert gateway_findings("pod on n", end, host, family) == []
    assert gateway is not None
    assert resolution_findings("pod on n", gateway, end.neighbours, host, family) == []


def test_podip_006_a_second_global_address_is_found() -> None:
    end = pod_end(*OWN, info("fd00:bad::1", 128, "global"))

    (finding,) = address_findings("pod on worker", end, API, Family.IPV6)

    assert "has global IPv6 addresses fd00:10:244:1::5/128, fd00:bad::1/128" in finding
    assert "but status.podIPs says fd00:10:244:1::5" in finding
    assert address_findings("pod on worker", end, API, Family.IPV4) == []


def test_podip_006_a_tentative_address_is_found() -> None:
    end = pod_end(OWN[0], info("fd00:10:244:1::5", 128, "global", tentative=True), OWN[2])

    (finding,) = address_findings("pod on worker", end, API, Family.IPV6)

    assert "fd00:10:244:1::5, which is tentative" in finding


def test_podip_006_a_subnet_on_the_interface_is_found() -> None:
    end = pod_end(info("10.244.1.5", 26, "global"), *OWN[1:])

    (finding,) = address_findings("pod on worker", end, API, Family.IPV4)

    assert "has 10.244.1.5/26, expected /32" in finding


def test_podip_006_ipv6_needs_its_link_local() -> None:
    (finding,) = address_findings("pod on worker", pod_end(*OWN[:2]), API, Family.IPV6)

    assert "link-local addresses none, expected exactly one" in finding


def test_podip_007_a_gateway_that_the_node_has_not_is_found() -> None:
    host = host_end(info("fe80::1", 64, "link"))

    (finding,) = gateway_findings("pod on worker", pod_end(), host, Family.IPV6)

    assert f"its IPv6 gateway {GATEWAY} is not an address of cali12345 on the node" in finding
    assert "(there: fe80::1)" in finding


def test_podip_007_a_deleted_link_local_is_found() -> None:
    bare = replace(host_end().link, addresses=())

    (finding,) = gateway_findings(
        "pod on worker", pod_end(), replace(host_end(), link=bare), Family.IPV6
    )

    assert "(there: none)" in finding


def test_podip_007_a_wrong_mac_is_found() -> None:
    end = replace(pod_end(), neighbours={VIRTUAL_GATEWAY: "aa:aa:aa:aa:aa:aa", GATEWAY: MAC})

    (finding,) = gateway_findings("pod on worker", end, host_end(), Family.IPV4)

    assert "gateway 169.254.1.1 has MAC aa:aa:aa:aa:aa:aa in the pod" in finding


@pytest.mark.parametrize(
    "routes",
    [
        (),
        ((None, "eth0"),),
        ((GATEWAY, "eth1"),),
        ((GATEWAY, "eth0"), (ip_address("fe80::2"), "eth0")),
    ],
)
def test_podip_007_anything_but_one_default_route_is_found(routes: tuple[object, ...]) -> None:
    end = replace(pod_end(), defaults={**pod_end().defaults, Family.IPV6: routes})

    assert "default IPv6 routes are" in told(
        gateway_findings("pod on worker", end, host_end(), Family.IPV6)
    )


def test_conn_014_unanswered_solicitations_are_found() -> None:
    (finding,) = resolution_findings("pod on worker", GATEWAY, {}, host_end(), Family.IPV6)

    assert f"does not resolve its IPv6 gateway {GATEWAY}" in finding
    assert "(it has no answer, cali12345 is ee:ee:ee:ee:ee:ee)" in finding
    assert "neighbour solicitations on cali12345 are not answered" in finding


def test_conn_014_unanswered_arp_is_found() -> None:
    (finding,) = resolution_findings("pod on worker", VIRTUAL_GATEWAY, {}, host_end(), Family.IPV4)

    assert "ARP requests on cali12345 are not answered" in finding


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        (Family.IPV4, "net.ipv4.conf.cali12345.proxy_arp=1"),
        (Family.IPV6, "net.ipv6.conf.cali12345.proxy_ndp=1"),
    ],
)
def test_conn_014_a_proxy_that_is_off_is_found(family: Family, setting: str) -> None:
    host = replace(host_end(), proxy={family: "0"})
    gateway = pod_end().gateway(family)
    assert gateway is not None

    (finding,) = resolution_findings("pod on worker", gateway, {gateway: MAC}, host, family)

    assert setting in finding


HOSTS = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
10.244.1.5\tweb-1
fd00:10:244:1::5\tweb-1
"""
ENVIRONMENT = {"POD_IP": "10.244.1.5", "POD_IPS": "10.244.1.5,fd00:10:244:1::5"}


def test_podip_008_a_healthy_pod_gives_no_findings() -> None:
    assert identity_findings("pod on n", Told.parse(ENVIRONMENT, HOSTS, "web-1"), API) == []


def test_podip_008_a_hosts_file_of_its_own_is_found() -> None:
    mounted = Told.parse(ENVIRONMENT, "127.0.0.1 localhost\n", "web-1")

    (finding,) = identity_findings("pod on worker", mounted, API)

    assert "/etc/hosts for the pod's own name is none" in finding
    assert "volume mounted over it" in finding


def test_podip_008_another_order_is_found() -> None:
    swapped = {"POD_IP": "fd00:10:244:1::5", "POD_IPS": "fd00:10:244:1::5,10.244.1.5"}

    found = identity_findings("pod on worker", Told.parse(swapped, HOSTS, "web-1"), API)

    assert len(found) == 2
