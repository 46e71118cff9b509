"""Faults on the way of packets: between pods, between pods and nodes, to and from the outside."""

from __future__ import annotations

from typing import Final

from helpers.faults.addresses import host_interface
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Change, Command, Frozen, NftTable, PodCommand, Rule, Sysctl
from helpers.faults.common import ICMP, NFT, nft, pool
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.listeners import PORTS
from helpers.model import Family
from helpers.own_pools import RANGES

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


@plants_twins("CONN-001/same-node", "CONN-001/same-node-ipv4")
def dropped_within_a_node(bench: Bench, family: Family) -> Plan:
    rule = f'{PODS} oifname "cali*" drop'
    return Plan([nft(bench.worker, family, ("forward", -10, rule))])


@plants_twins("F12", "CONN-002/ipv4")
def one_direction_of_one_pair_is_dropped(bench: Bench, family: Family) -> Plan:
    a, b = bench.pair
    rule = f'{NFT[family]} saddr {blocks(bench, a, family)} oifname "cali*" drop'
    return Plan([nft(b, family, ("forward", -10, rule))])


@plants_twins("CONN-003/echo", "CONN-003/echo-ipv4")
def echo_requests_are_dropped(bench: Bench, family: Family) -> Plan:
    rule = f"{ICMP[family]} type echo-request drop"
    return everywhere(bench, family, ("forward", -10, rule))


@plants_twins("F17", "CONN-005/masquerade-ipv4")
def pod_sources_are_masqueraded(bench: Bench, family: Family) -> Plan:
    a = bench.worker
    pods, ip = pod_network(bench, family), NFT[family]
    rule = f'{ip} saddr {pods} {ip} daddr {pods} oifname "eth0" masquerade'
    made = Rule(hook="postrouting", priority=90, rule=rule, type="nat")
    return Plan([NftTable(node=a, family=family, rules=(made,))])


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


@plants("CONN-009/fragments-ipv4")
def ipv4_fragments_are_dropped(bench: Bench) -> Plan:
    # More fragments, or an offset.
    rule = ("prerouting", -450, "ip frag-off & 0x3fff != 0 drop")
    return Plan([nft(bench.worker, Family.IPV4, rule)])


@plants("R2")
def neighbour_solicitations_are_dropped(bench: Bench) -> Plan:
    rule = f"{PODS} icmpv6 type nd-neighbor-solicit drop"
    return Plan([nft(bench.worker, Family.IPV6, ("prerouting", -310, rule))])


@plants_twins("CONN-014/proxy-ndp", "CONN-014/proxy-arp")
def no_proxy_for_neighbours(bench: Bench, family: Family) -> Plan:
    device = host_interface(bench, bench.agent_pod(bench.worker))
    setting = "proxy_ndp" if family is Family.IPV6 else "proxy_arp"
    name = f"net/ipv{family.version}/conf/{device}/{setting}"
    return Plan([Sysctl(node=bench.worker, name=name, value="0")])


@plants_twins("CONN-004/sctp", "CONN-004/sctp-ipv4")
def sctp_is_dropped(bench: Bench, family: Family) -> Plan:
    return everywhere(bench, family, ("forward", -10, "meta l4proto sctp drop"))


@plants_twins("CONN-010/rate", "CONN-010/rate-ipv4")
def new_flows_are_limited(bench: Bench, family: Family) -> Plan:
    rule = f"{PODS} ct state new limit rate over 20/second drop"
    return everywhere(bench, family, ("forward", -10, rule))


# Listens on a port over one family, and asks the pod's own listener over the other.
RELAY: Final = """
import socket, sys, threading
port, here, there = int(sys.argv[1]), sys.argv[2], sys.argv[3]
family = socket.AF_INET6 if ":" in here else socket.AF_INET
server = socket.create_server((here, port), family=family)
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
def serve(one):
    other = socket.create_connection((there, port))
    threading.Thread(target=pump, args=(one, other), daemon=True).start()
    pump(other, one)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
ANY: Final = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}  # noqa: S104
LOOPBACK: Final = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}


@plants_twins("CONN-013/relay", "CONN-013/relay-ipv4")
def a_relay_translates_in_a_pod(bench: Bench, family: Family) -> Plan:
    pod = bench.agent_pod(bench.worker)
    told = f"{PORTS[family.other]} {ANY[family]} {LOOPBACK[family.other]}"
    start = f'setsid python3 -c "$1" {told} </dev/null >/dev/null 2>&1 & echo $! > /tmp/relay'
    return Plan(
        [
            PodCommand(
                namespace=pod.namespace,
                pod=pod.name,
                do=("sh", "-c", start, "sh", RELAY),
                undo=("sh", "-c", "kill $(cat /tmp/relay) 2>/dev/null; rm -f /tmp/relay; true"),
                look=("sh", "-c", "test -e /tmp/relay && echo relay || true"),
            )
        ]
    )


# -- pods and nodes --------------------------------------------------------------------------------


@plants_twins("CONN-011/output", "CONN-011/output-ipv4")
def nodes_do_not_reach_pods(bench: Bench, family: Family) -> Plan:
    rule = f"{NFT[family]} daddr {pod_network(bench, family)} drop"
    return Plan([nft(bench.worker, family, ("output", -10, rule))])


@plants_twins("CONN-012/input", "CONN-012/input-ipv4")
def pods_do_not_reach_their_node(bench: Bench, family: Family) -> Plan:
    node = bench.worker
    rule = f"{PODS} {NFT[family]} daddr {bench.address(node, family)} drop"
    return Plan([nft(node, family, ("input", -10, rule))])


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


@plants_twins("EGR-007/unreachable", "EGR-007/unreachable-ipv4")
def errors_do_not_come_back(bench: Bench, family: Family) -> Plan:
    rule = ("forward", -10, f"{ICMP[family]} type destination-unreachable drop")
    return everywhere(bench, family, rule)


@plants_twins("EGR-011/new", "EGR-011/new-ipv4")
def outside_opens_nothing(bench: Bench, family: Family) -> Plan:
    source = _outside(bench, family)
    rule = f'{NFT[family]} saddr {source} oifname "cali*" ct state new drop'
    return everywhere(bench, family, ("forward", -10, rule))


@plants("EGR-005/untracked")
def pods_of_the_pool_are_not_tracked(bench: Bench) -> Plan:
    rule = ("prerouting", -310, f"ip6 saddr {RANGES[Family.IPV6]} notrack")
    return everywhere(bench, Family.IPV6, rule)


@plants_twins("EGR-006/masquerade", "EGR-006/masquerade-ipv4")
def everything_of_the_pool_is_masqueraded(bench: Bench, family: Family) -> Plan:
    rule = f'{NFT[family]} saddr {RANGES[family]} oifname "eth0" masquerade'
    made = Rule(hook="postrouting", priority=90, rule=rule, type="nat")
    return Plan([NftTable(node=node, family=family, rules=(made,)) for node in bench.names])


# -- packets ---------------------------------------------------------------------------------------


@plants_twins("PKT-011/hop-limit", "PKT-011/ttl")
def hop_limits_are_overwritten(bench: Bench, family: Family) -> Plan:
    statement = "ip6 hoplimit set 64" if family is Family.IPV6 else "ip ttl set 64"
    return Plan([nft(bench.worker, family, ("forward", -10, statement))])


@plants_twins("PKT-018/raw-accept", "PKT-018/raw-accept-ipv4")
def forged_sources_are_accepted(bench: Bench, family: Family) -> Plan:
    """Ahead of Felix's own rule in the raw table, and Felix, which would be first again, stands."""
    node = bench.worker
    table = ("ip6tables" if family is Family.IPV6 else "iptables", "-w", "-t", "raw")
    rule = ("PREROUTING", "-i", "cali+", "-j", "ACCEPT")
    changes: list[Change] = [
        Frozen(node=node, command="calico-node"),
        Command(
            node=node,
            do=(*table, "-I", rule[0], "1", *rule[1:]),
            undo=(*table, "-D", *rule),
            look=("sh", "-c", f"{' '.join(table)} -S PREROUTING | grep -c 'cali+ -j ACCEPT'"),
        ),
    ]
    if family is Family.IPV4:  # the kernel has a reverse path filter of its own for IPv4 only
        each = "for f in /proc/sys/net/ipv4/conf/cali*/rp_filter; do"
        changes += [
            Sysctl(node=node, name="net/ipv4/conf/all/rp_filter", value="0"),  # the larger counts
            Command(
                node=node,
                do=("sh", "-c", f"{each} echo 0 > $f; done"),
                undo=("sh", "-c", f"{each} echo 1 > $f; done"),  # what Felix sets
                look=("sh", "-c", f"{each} cat $f; done | sort -u"),
            ),
        ]
    return Plan(changes)
