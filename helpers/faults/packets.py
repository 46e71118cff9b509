"""Faults of what becomes of packets: extension headers, options, fields, errors, neighbours."""

from __future__ import annotations

from typing import Final

from helpers.faults.addresses import host_interface
from helpers.faults.bench import Bench
from helpers.faults.changes import Command, Sysctl
from helpers.faults.common import ICMP, NFT, nft
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.model import Family

PODS: Final = 'iifname "cali*"'
FORWARD: Final = ("forward", -10)
OUTPUT: Final = ("output", -10)
RAW: Final = ("prerouting", -310)


def at_worker(bench: Bench, family: Family, *rules: tuple[str, int, str]) -> Plan:
    return Plan([nft(bench.worker, family, *rules)])


# -- extension headers and options -----------------------------------------------------------------


@plants("F22")
def extension_headers_are_dropped(bench: Bench) -> Plan:
    rules = [(*RAW, f"{PODS} exthdr {header} exists drop") for header in ("hbh", "dst")]
    return at_worker(bench, Family.IPV6, *rules)


@plants("PKT-009/experiment")
def unknown_next_headers_are_dropped(bench: Bench) -> Plan:
    return at_worker(bench, Family.IPV6, (*FORWARD, "meta l4proto 253 drop"))


@plants("PKT-010/long")
def long_chains_are_dropped(bench: Bench) -> Plan:
    rule = "exthdr dst exists meta length > 120 drop"
    return at_worker(bench, Family.IPV6, (*FORWARD, rule))


@plants("PKT-022/fabric")
def options_from_other_hosts_are_dropped(bench: Bench) -> Plan:
    rule = 'iifname "eth0" exthdr dst exists drop'
    return at_worker(bench, Family.IPV6, (*RAW, rule))


@plants("PKT-021/record-route")
def recorded_routes_are_dropped(bench: Bench) -> Plan:
    return at_worker(bench, Family.IPV4, (*FORWARD, "ip option rr exists drop"))


# -- fields ----------------------------------------------------------------------------------------


@plants_twins("PKT-013/wiped", "PKT-013/wiped-ipv4")
def markings_are_wiped(bench: Bench, family: Family) -> Plan:
    rules = [(*FORWARD, f"{NFT[family]} dscp set cs0")]
    if family is Family.IPV6:  # IPv4 has no flow label
        rules.append((*FORWARD, "ip6 flowlabel set 0"))
    return at_worker(bench, family, *rules)


@plants_twins("PKT-020/clamp", "PKT-020/clamp-ipv4")
def segment_sizes_are_clamped(bench: Bench, family: Family) -> Plan:
    rule = "tcp flags syn tcp option maxseg size set 900"
    return at_worker(bench, family, (*FORWARD, rule))


# -- errors ----------------------------------------------------------------------------------------


@plants_twins("PKT-012/time-exceeded", "PKT-012/time-exceeded-ipv4")
def expired_packets_are_not_told(bench: Bench, family: Family) -> Plan:
    return at_worker(bench, family, (*OUTPUT, f"{ICMP[family]} type time-exceeded drop"))


TOO_BIG: Final = {
    Family.IPV4: "icmp type destination-unreachable icmp code 4",  # fragmentation needed
    Family.IPV6: "icmpv6 type packet-too-big",
}


@plants_twins("F18", "PKT-015/ipv4")
def packet_too_big_is_dropped(bench: Bench, family: Family) -> Plan:
    rule = f"{TOO_BIG[family]} drop"
    return at_worker(bench, family, (*OUTPUT, rule), (*FORWARD, rule))


@plants("PKT-019/beyond-scope")
def limited_scopes_are_not_told(bench: Bench) -> Plan:
    rule = "icmpv6 type destination-unreachable icmpv6 code 2 drop"
    return at_worker(bench, Family.IPV6, (*OUTPUT, rule))


# -- neighbours ------------------------------------------------------------------------------------


@plants("F20")
def router_advertisements_are_accepted(bench: Bench) -> Plan:
    """2, because a host that forwards ignores advertisements with 1."""
    device = host_interface(bench, bench.agent_pod(bench.worker))
    return Plan([Sysctl(node=bench.worker, name=f"net/ipv6/conf/{device}/accept_ra", value="2")])


@plants("PKT-017/neighbour")
def a_pod_is_taken_for_another(bench: Bench) -> Plan:
    """The address of another worker's pod at the MAC of this one's: nobody's packets go there."""
    here, there = bench.worker, next(name for name in bench.names if name != bench.worker)
    pod, other = bench.agent_pod(here), bench.agent_pod(there)
    mac = bench.kube.exec(pod.namespace, pod.name, ["cat", "/sys/class/net/eth0/address"], "agent")
    claimed = str(other.addresses.require(Family.IPV6))
    entry = ("to", claimed, "dev", host_interface(bench, pod))
    neighbour = ("ip", "-6", "neigh")
    return Plan(
        [
            Command(
                node=here,
                do=(*neighbour, "replace", *entry, "lladdr", mac.strip(), "nud", "permanent"),
                undo=(*neighbour, "del", *entry),
                look=(*neighbour, "show", *entry, "nud", "permanent"),
            )
        ]
    )
