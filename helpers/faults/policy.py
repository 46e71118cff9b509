"""Faults of policy, and of the rows that lie beside it: pools, other transports, relays."""

from __future__ import annotations

from typing import Any, Final

from helpers.encapsulation import VXLAN_DEVICE
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Command, Exec, Frozen, NftTable, PodCommand, Restart, Rule
from helpers.faults.common import CALICO_CRD, CALICO_NODE, SYSTEM, calico_environment, pool
from helpers.faults.objects import Patch, Whole
from helpers.faults.paths import everywhere
from helpers.faults.plans import Plan, plants
from helpers.host_endpoints import LABEL
from helpers.listeners import PORTS
from helpers.model import Family
from helpers.own_pools import RANGES
from helpers.policy.objects import global_policy

FIRST: Final = 0.0  # order of a policy that is asked before all others
IPV6: Final = {"ipVersion": 6}

# Felix leaves the chains that it no longer programs. Only where it was told to: this runs after
# healing as well.
FLUSH: Final = """
grep -qz FELIX_IPV6SUPPORT=false /proc/"$(pgrep -o -f 'calico-node -felix')"/environ || exit 0
for t in raw mangle nat filter; do
    ip6tables-save -t $t | grep -v cali | ip6tables-restore -T $t
done
"""


def first_policy(name: str, rule: dict[str, Any], selector: str = "all()", **more: Any) -> Whole:
    """A GlobalNetworkPolicy ahead of all others, with one rule for both directions."""
    manifest = global_policy(
        f"dsfault-{name}", selector, order=FIRST, ingress=[rule], egress=[rule], **more
    )
    return Whole(
        api_version=CALICO_CRD,
        kind="GlobalNetworkPolicy",
        name=manifest["metadata"]["name"],
        manifest=manifest,
    )


@plants("F05")
def felix_without_ipv6_everywhere(bench: Bench) -> Plan:
    template = {"spec": {"containers": calico_environment(bench, {"FELIX_IPV6SUPPORT": "false"})}}
    flush = tuple(Exec(node=node, argv=("sh", "-c", FLUSH)) for node in bench.names)
    restart = Restart(namespace=SYSTEM, selector=CALICO_NODE)
    return Plan(
        [
            Patch(
                api_version="apps/v1",
                kind="DaemonSet",
                name="calico-node",
                namespace=SYSTEM,
                patch={
                    "spec": {
                        "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
                        "template": template,
                    }
                },
                then=(restart, *flush),
            )
        ]
    )


@plants("F25")
def ipv6_is_allowed_ahead_of_all_policies(_: Bench) -> Plan:
    return Plan([first_policy("allow-ipv6", {"action": "Allow", **IPV6})])


@plants("NPOL-001/ipv4")
def ipv4_is_allowed_ahead_of_all_policies(_: Bench) -> Plan:
    return Plan([first_policy("allow-ipv4", {"action": "Allow", "ipVersion": 4})])


@plants("NPOL-008/port")
def a_port_beside_a_range_is_allowed(_: Bench) -> Plan:
    rule = {"action": "Allow", **IPV6, "protocol": "UDP", "destination": {"ports": [8083]}}
    return Plan([first_policy("port", rule)])


@plants("NPOL-009/type")
def another_icmpv6_type_is_allowed(_: Bench) -> Plan:
    rule = {"action": "Allow", **IPV6, "protocol": "ICMPv6", "icmp": {"type": 139}}
    return Plan([first_policy("icmpv6", rule)])


@plants("NPOL-010/solicitations")
def solicitations_to_host_endpoints_are_denied(_: Bench) -> Plan:
    rule = {"action": "Deny", **IPV6, "protocol": "ICMPv6", "icmp": {"type": 135}}
    return Plan([first_policy("solicitations", rule, f"{LABEL} == 'true'")])


@plants("NPOL-012/headers")
def extension_headers_pass_ahead_of_policy(bench: Bench) -> Plan:
    """Ahead of Felix's own rule, which it puts first again when it looks after 180 s."""
    rule = ("FORWARD", "-m", "ipv6header", "--header", "hop,dst", "--soft", "-j", "ACCEPT")
    table = ("ip6tables", "-w")
    return Plan(
        [
            Command(
                node=bench.worker,
                do=(*table, "-I", rule[0], "1", *rule[1:]),
                undo=(*table, "-D", *rule),
                look=("sh", "-c", "ip6tables -w -S FORWARD | grep ipv6header"),
            )
        ]
    )


# -- pools -----------------------------------------------------------------------------------------


@plants("EGR-005/untracked")
def pods_of_the_pool_are_not_tracked(bench: Bench) -> Plan:
    rule = ("prerouting", -310, f"ip6 saddr {RANGES[Family.IPV6]} notrack")
    return everywhere(bench, Family.IPV6, rule)


@plants("EGR-006/masquerade")
def everything_of_the_pool_is_masqueraded(bench: Bench) -> Plan:
    rule = f'ip6 saddr {RANGES[Family.IPV6]} oifname "eth0" masquerade'
    made = Rule(hook="postrouting", priority=90, rule=rule, type="nat")
    return Plan([NftTable(node=node, family=Family.IPV6, rules=(made,)) for node in bench.names])


# -- connectivity ----------------------------------------------------------------------------------


@plants("CONN-004/sctp")
def sctp_is_dropped(bench: Bench) -> Plan:
    return everywhere(bench, Family.IPV6, ("forward", -10, "meta l4proto sctp drop"))


@plants("CONN-010/rate")
def new_flows_are_limited(bench: Bench) -> Plan:
    rule = 'iifname "cali*" ct state new limit rate over 20/second drop'
    return everywhere(bench, Family.IPV6, ("forward", -10, rule))


RELAY: Final = """
import socket, sys, threading
port = int(sys.argv[1])
server = socket.create_server(("::", port), family=socket.AF_INET6)
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
def serve(one):
    other = socket.create_connection(("127.0.0.1", port))
    threading.Thread(target=pump, args=(one, other), daemon=True).start()
    pump(other, one)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@plants("CONN-013/relay")
def a_relay_translates_in_a_pod(bench: Bench) -> Plan:
    pod = bench.agent_pod(bench.worker)
    port = str(PORTS[Family.IPV4])
    start = f'setsid python3 -c "$1" {port} </dev/null >/dev/null 2>&1 & echo $! > /tmp/relay'
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


# -- encapsulation and routes ---------------------------------------------------------------------


@plants("CONN-007/native")
def the_pool_encapsulates_no_more(_: Bench) -> Plan:
    return Plan([pool(Family.IPV6, vxlanMode="Never")])


@plants("RTE-006/forwarding")
def no_forwarding_entry_for_a_peer(bench: Bench) -> Plan:
    """Felix would repair it, so it stands still meanwhile."""
    node, peer = bench.worker, bench.address(bench.pair[0], Family.IPV6)
    show = f"bridge fdb show dev {VXLAN_DEVICE} | grep -w {peer}"
    found = bench.shell(node, show, check=False).split()
    if not found:
        raise FaultError(f"{node} has no forwarding entry for {peer}")
    entry = (found[0], "dev", VXLAN_DEVICE, "dst", peer, "self")
    return Plan(
        [
            Frozen(node=node, command="calico-node"),
            Command(
                node=node,
                do=("bridge", "fdb", "del", *entry),
                undo=("bridge", "fdb", "replace", *entry, "permanent"),
                look=("sh", "-c", show),
            ),
        ]
    )


@plants("RTE-004/static")
def a_route_to_one_address_of_the_pool(bench: Bench) -> Plan:
    """The last address of the pool: it belongs to no block."""
    stray = f"{bench.cluster.spec.pod_cidrs.of(Family.IPV6)[-1]}/128"
    return Plan([_route(bench.worker, stray, "dev", "lo", "proto", "static")])


@plants("RTE-005/second")
def a_second_route_to_a_block(bench: Bench) -> Plan:
    a, node = bench.pair[0], bench.worker
    block = str(bench.blocks(a, Family.IPV6)[0])
    via = bench.address(a, Family.IPV6)
    return Plan([_route(node, block, "via", via, "metric", "2048", "proto", "static")])


def _route(node: str, destination: str, *words: str) -> Command:
    change = ("ip", "-6", "route")
    return Command(
        node=node,
        do=(*change, "add", destination, *words),
        undo=(*change, "del", destination, *words),
        look=("sh", "-c", f"ip -6 route show {destination} proto static"),
    )
