"""Faults on the way of packets: between pods, between pods and nodes, to and from the outside."""

from __future__ import annotations

from typing import Final

from helpers.faults.addresses import host_interface
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Command, NftTable, PodCommand, Rule, Sysctl
from helpers.faults.common import nft, pool
from helpers.faults.plans import Plan, plants
from helpers.model import Family

PODS: Final = 'iifname "cali*"'
SET: Final = "{{ {} }}"  # how nft writes a set


def pod_network(bench: Bench, family: Family) -> str:
    """The addresses of all pods of a family, as nft matches them."""
    return str(bench.cluster.spec.pod_cidrs.of(family))


def blocks(bench: Bench, node: str, family: Family) -> str:
    """The blocks of one node as an nft set.

    Raises:
        FaultError: it has none.
    """
    found = bench.blocks(node, family)
    if not found:
        raise FaultError(f"{node} has no block of {family}")
    return SET.format(", ".join(map(str, found)))


def everywhere(bench: Bench, family: Family, *rules: tuple[str, int, str]) -> Plan:
    """The same rules on every node."""
    return Plan([nft(node, family, *rules) for node in bench.names])


# -- between pods ----------------------------------------------------------------------------------


@plants("CONN-001/same-node")
def ipv6_within_a_node_is_dropped(bench: Bench) -> Plan:
    rule = f'{PODS} oifname "cali*" drop'
    return Plan([nft(bench.worker, Family.IPV6, ("forward", -10, rule))])


@plants("F12")
def one_direction_of_one_pair_is_dropped(bench: Bench) -> Plan:
    a, b = bench.pair
    rule = f'ip6 saddr {blocks(bench, a, Family.IPV6)} oifname "cali*" drop'
    return Plan([nft(b, Family.IPV6, ("forward", -10, rule))])


@plants("CONN-002/ipv4")
def one_direction_of_one_pair_is_dropped_ipv4(bench: Bench) -> Plan:
    a, b = bench.pair
    rule = f'ip saddr {blocks(bench, a, Family.IPV4)} oifname "cali*" drop'
    return Plan([nft(b, Family.IPV4, ("forward", -10, rule))])


@plants("CONN-003/echo")
def echo_requests_are_dropped(bench: Bench) -> Plan:
    return everywhere(bench, Family.IPV6, ("forward", -10, "icmpv6 type echo-request drop"))


@plants("F17")
def pod_sources_are_masqueraded(bench: Bench) -> Plan:
    a, _ = bench.pair
    pods = pod_network(bench, Family.IPV6)
    rule = f'ip6 saddr {pods} ip6 daddr {pods} oifname "eth0" masquerade'
    made = Rule(hook="postrouting", priority=90, rule=rule, type="nat")
    return Plan([NftTable(node=a, family=Family.IPV6, rules=(made,))])


@plants("CONN-008/mtu")
def pod_mtu_is_too_small(bench: Bench) -> Plan:
    pod = bench.agent_pod(bench.worker)
    link = ("ip", "link", "set", "eth0", "mtu")
    mtu = bench.kube.exec(pod.namespace, pod.name, ["cat", "/sys/class/net/eth0/mtu"], "agent")
    return Plan(
        [
            PodCommand(
                namespace=pod.namespace,
                pod=pod.name,
                do=(*link, "1400"),
                undo=(*link, mtu.strip()),
                look=("cat", "/sys/class/net/eth0/mtu"),
            )
        ]
    )


@plants("F21")
def ipv6_fragments_are_dropped(bench: Bench) -> Plan:
    # Before -400, where the kernel puts fragments together.
    rule = ("prerouting", -450, "exthdr frag exists drop")
    return Plan([nft(bench.worker, Family.IPV6, rule)])


@plants("R2")
def neighbour_solicitations_are_dropped(bench: Bench) -> Plan:
    rule = f"{PODS} icmpv6 type nd-neighbor-solicit drop"
    return Plan([nft(bench.worker, Family.IPV6, ("prerouting", -310, rule))])


@plants("CONN-014/proxy-ndp")
def no_proxy_for_neighbours(bench: Bench) -> Plan:
    device = host_interface(bench, bench.agent_pod(bench.worker))
    return Plan([Sysctl(node=bench.worker, name=f"net/ipv6/conf/{device}/proxy_ndp", value="0")])


# -- pods and nodes --------------------------------------------------------------------------------


@plants("CONN-011/output")
def nodes_do_not_reach_pods(bench: Bench) -> Plan:
    rule = f"ip6 daddr {pod_network(bench, Family.IPV6)} drop"
    return Plan([nft(bench.worker, Family.IPV6, ("output", -10, rule))])


@plants("CONN-012/input")
def pods_do_not_reach_their_node(bench: Bench) -> Plan:
    node = bench.worker
    rule = f"{PODS} ip6 daddr {bench.address(node, Family.IPV6)} drop"
    return Plan([nft(node, Family.IPV6, ("input", -10, rule))])


# -- the outside -----------------------------------------------------------------------------------


def _outside(bench: Bench, family: Family) -> str:
    host = bench.cluster.outside
    if host is None:
        raise FaultError("the cluster has no outside host")
    return SET.format(", ".join(str(a) for a in host.internet.all if Family.of(a) is family))


@plants("EGR-001/drop")
def ipv4_to_the_outside_is_dropped(bench: Bench) -> Plan:
    rule = f"ip daddr {_outside(bench, Family.IPV4)} {PODS} drop"
    return Plan([nft(bench.worker, Family.IPV4, ("forward", -10, rule))])


@plants("EGR-002/default-route")
def no_ipv6_default_route(bench: Bench) -> Plan:
    look = ("ip", "-6", "route", "show", "default")
    routes = [r for r in bench.run(bench.worker, *look).splitlines() if r.strip()]
    if len(routes) != 1:
        raise FaultError(f"{bench.worker} has {len(routes)} IPv6 default routes, not one")
    words = tuple(routes[0].split())
    kept = words[: words.index("pref")] if "pref" in words else words
    return Plan(
        [
            Command(
                node=bench.worker,
                do=("ip", "-6", "route", "del", *kept),
                undo=("ip", "-6", "route", "replace", *kept),
                look=look,
            )
        ]
    )


@plants("F15")
def ipv4_pods_are_not_masqueraded(_: Bench) -> Plan:
    return Plan([pool(Family.IPV4, natOutgoing=False)])


@plants("F16")
def ipv6_pods_are_masqueraded(_: Bench) -> Plan:
    return Plan([pool(Family.IPV6, natOutgoing=True)])


@plants("EGR-007/unreachable")
def errors_do_not_come_back(bench: Bench) -> Plan:
    rule = ("forward", -10, "icmpv6 type destination-unreachable drop")
    return everywhere(bench, Family.IPV6, rule)


@plants("EGR-011/new")
def outside_opens_nothing(bench: Bench) -> Plan:
    source = _outside(bench, Family.IPV6)
    rule = f'ip6 saddr {source} oifname "cali*" ct state new drop'
    return everywhere(bench, Family.IPV6, ("forward", -10, rule))


# -- packets ---------------------------------------------------------------------------------------


@plants("PKT-011/hop-limit")
def hop_limits_are_overwritten(bench: Bench) -> Plan:
    return Plan([nft(bench.worker, Family.IPV6, ("forward", -10, "ip6 hoplimit set 64"))])


@plants("PKT-018/raw-accept")
def forged_sources_are_accepted(bench: Bench) -> Plan:
    """Ahead of Felix's own rule in the raw table; Felix puts its rule first again at a resync."""
    node = bench.worker
    table = ("ip6tables", "-w", "-t", "raw")
    rule = ("PREROUTING", "-i", "cali+", "-j", "ACCEPT")
    return Plan(
        [
            Command(
                node=node,
                do=(*table, "-I", rule[0], "1", *rule[1:]),
                undo=(*table, "-D", *rule),
                look=("sh", "-c", f"{' '.join(table)} -S PREROUTING | grep -c 'cali+ -j ACCEPT'"),
            )
        ]
    )
