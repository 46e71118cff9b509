"""Random clusters for the ipvs model, and kernels that hold just what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from hypothesis import strategies as st

from helpers.ipvs.expected import (
    INET,
    SETS,
    Expected,
    NodeAddresses,
    Settings,
    expected_state,
    expected_sysctls,
    set_name,
)
from helpers.ipvs.kernel import KernelState, parse_servers, parse_sets
from helpers.model import FAMILIES, Family, IPAddress
from helpers.services import EndpointSlice

V4, V6 = Family.IPV4, Family.IPV6
HERE, ELSEWHERE = "here", "elsewhere"
HERTZ = 100


def address(family: Family, net: int, host: int) -> IPAddress:
    """Host ``host`` of network ``net``: the same numbers in both families."""
    if family is V4:
        return IPv4Address((10 << 24) | (net << 16) | host)
    return IPv6Address((0xFD00 << 112) | (net << 64) | host)


def twin(value: IPAddress) -> IPAddress:
    """The address of the other family with the same numbers."""
    if value.version == 4:
        return address(V6, int(value) >> 16 & 0xFF, int(value) & 0xFFFF)
    return address(V4, int(value) >> 64 & 0xFF, int(value) & 0xFFFF)


@dataclass(frozen=True)
class World:
    """Services and EndpointSlices as the API has them, and the node that is looked at."""

    services: list[dict[str, Any]]
    slices: list[EndpointSlice]
    node: NodeAddresses
    settings: Settings

    def expected(self, family: Family) -> Expected:
        return expected_state(self.services, self.slices, family, self.node, self.settings)


NODE = NodeAddresses(
    HERE,
    frozenset(
        [
            *(address(family, 1, host) for family in FAMILIES for host in (1, 2)),
            ip_address("127.0.0.1"),
            ip_address("::1"),
            ip_address("fe80::1"),
        ]
    ),
    tuple(address(family, 1, 1) for family in FAMILIES),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 4))
    made = [draw(_service(number)) for number in range(1, count + 1)]
    return World(
        [service for service, _ in made],
        [one for _, slices in made for one in slices],
        NODE,
        Settings(scheduler=draw(st.sampled_from(["rr", "lc", "mh"]))),
    )


@st.composite
def _service(draw: st.DrawFn, number: int) -> tuple[dict[str, Any], list[EndpointSlice]]:
    families = draw(st.sampled_from([[V4, V6], [V6, V4], [V4], [V6]]))
    kind = draw(st.sampled_from(["ClusterIP", "Headless", "NodePort", "LoadBalancer"]))
    external_ips = draw(st.booleans()) and kind != "Headless"
    ports = draw(st.lists(st.sampled_from(["TCP", "UDP", "SCTP"]), min_size=1, max_size=2))
    cluster_ips = [str(address(family, 96, number)) for family in families]
    spec: dict[str, Any] = {
        "type": "ClusterIP" if kind == "Headless" else kind,
        "ipFamilies": [family.kubernetes for family in families],
        "clusterIPs": ["None"] if kind == "Headless" else cluster_ips,
        "clusterIP": "None" if kind == "Headless" else cluster_ips[0],
        "ports": [
            {"name": f"p{index}", "protocol": protocol, "port": 80 + index}
            for index, protocol in enumerate(ports)
        ],
        "internalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
    }
    if draw(st.booleans()):
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": draw(st.integers(1, 900))}}
    if external_ips:
        spec["externalIPs"] = [str(address(family, 7, number)) for family in FAMILIES]
    if kind in ("NodePort", "LoadBalancer"):
        for index, port in enumerate(spec["ports"]):
            port["nodePort"] = 30000 + 10 * number + index
    if kind in ("NodePort", "LoadBalancer") or external_ips:
        spec["externalTrafficPolicy"] = draw(st.sampled_from(["Cluster", "Local"]))
    status: dict[str, Any] = {}
    if kind == "LoadBalancer":
        ingress = [{"ip": str(address(family, 8, number))} for family in families]
        status = {"loadBalancer": {"ingress": ingress}}
        if draw(st.booleans()):
            spec["loadBalancerSourceRanges"] = ["10.1.0.0/16", "fd00:0:0:1::/64"]
        if spec["externalTrafficPolicy"] == "Local":
            spec["healthCheckNodePort"] = 31000 + number
    meta = {"namespace": "ns", "name": f"s{number}"}
    service = {"metadata": meta, "spec": spec, "status": status}
    return service, draw(_slices(number, families, spec["ports"]))


@st.composite
def _slices(
    draw: st.DrawFn, number: int, families: list[Family], ports: list[dict[str, Any]]
) -> list[EndpointSlice]:
    conditions = st.sampled_from(
        [
            {"ready": True, "serving": True, "terminating": False},
            {"ready": False, "serving": False, "terminating": False},
            {"ready": False, "serving": True, "terminating": True},
        ]
    )
    pods = draw(st.lists(st.tuples(st.sampled_from([HERE, ELSEWHERE]), conditions), max_size=4))
    return [
        EndpointSlice.from_api(
            {
                "metadata": {
                    "namespace": "ns",
                    "name": f"s{number}-{family}",
                    "labels": {"kubernetes.io/service-name": f"s{number}"},
                },
                "addressType": family.kubernetes,
                "ports": [{**port, "port": 8080 + port["port"]} for port in ports],
                "endpoints": [
                    {
                        "addresses": [str(address(family, 244, 16 * number + index))],
                        "conditions": condition,
                        "nodeName": node,
                    }
                    for index, (node, condition) in enumerate(pods)
                ],
            }
        )
        for family in families
    ]


# -- kernels --------------------------------------------------------------------------------------


def proc_text(wanted: Mapping[Family, Expected]) -> str:
    """``/proc/net/ip_vs`` of a kernel that holds what is expected, as ip_vs_ctl.c prints it."""
    lines = [
        "IP Virtual Server version 1.2.1 (size=4096)",
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn",
    ]
    for family, expected in wanted.items():
        for server, promise in expected.servers.items():
            mask = "FFFFFFFF" if family is V4 else "80000000"
            keeps = f"persistent {promise.affinity * HERTZ} {mask}" if promise.affinity else ""
            place = _hexadecimal(server.address, server.port)
            lines.append(f"{server.protocol.upper():4} {place} {expected.scheduler} {keeps}")
            lines += [
                f"  -> {_hexadecimal(real.address, real.port)}      Masq    1      0          0"
                for real in promise.backends or ()
            ]
    return "\n".join(lines) + "\n"


def _hexadecimal(value: IPAddress, port: int) -> str:
    host = f"{int(value):08X}" if value.version == 4 else f"[{value.exploded}]"
    return f"{host}:{port:04X}"


def ipset_text(wanted: Mapping[Family, Expected]) -> str:
    """``ipset save`` of such a kernel."""
    lines = []
    for family, expected in wanted.items():
        for base, kind in SETS.items():
            name = set_name(base, family)
            options = "range 0-65535" if kind == "bitmap:port" else f"family {INET[family]} ..."
            lines.append(f"create {name} {kind} {options}")
            lines += [f"add {name} {entry}" for entry in expected.sets[name]]
    return "\n".join(lines) + "\n"


def kernel_of(world: World) -> KernelState:
    """A kernel that holds just what the world asks for, read from its texts."""
    wanted = {family: world.expected(family) for family in FAMILIES}
    bound = [a for expected in wanted.values() for a in expected.bound]
    return KernelState(
        bound=frozenset([*bound, ip_address("fe80::2")]),
        servers=parse_servers(proc_text(wanted)),
        sets=parse_sets(ipset_text(wanted)),
        sysctls=dict(expected_sysctls(world.settings)),
    )
