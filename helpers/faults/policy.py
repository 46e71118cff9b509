"""Faults of policy."""

from __future__ import annotations

from typing import Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Exec, Restart
from helpers.faults.common import CALICO_CRD, CALICO_NODE, SYSTEM, calico_node, nft
from helpers.faults.objects import Whole
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.host_endpoints import LABEL
from helpers.model import Family
from helpers.policy.objects import Object, global_policy

# Felix leaves the chains that it no longer programs. Only where it was told to: this runs after
# healing as well.
FLUSH: Final = """
grep -qz FELIX_IPV6SUPPORT=false /proc/"$(pgrep -o -f 'calico-node -felix')"/environ || exit 0
for t in raw mangle nat filter; do
    ip6tables-save -t $t | grep -v cali | ip6tables-restore -T $t
done
"""


def ahead_of_all(name: str, rule: Object, selector: str = "all()") -> Plan:
    """A policy that is asked before all others, with one rule for both directions.

    In a tier of its own, which passes on what the rule does not match: in the default tier the
    policy would deny everything else to pods and hosts that no other policy selects.
    """
    tier_name = f"dsfault-{name}"
    tier: Object = {
        "apiVersion": CALICO_CRD,
        "kind": "Tier",
        "metadata": {"name": tier_name},
        "spec": {"order": 1, "defaultAction": "Pass"},
    }
    policy = global_policy(name, selector, order=0, ingress=[rule], egress=[rule], tier=tier_name)
    return Plan([_made("Tier", tier), _made("GlobalNetworkPolicy", policy)])


def _made(kind: str, manifest: Object) -> Whole:
    name = manifest["metadata"]["name"]
    return Whole(api_version=CALICO_CRD, kind=kind, name=name, manifest=manifest)


@plants("F05")
def felix_without_ipv6_everywhere(bench: Bench) -> Plan:
    flush = tuple(Exec(node=node, argv=("sh", "-c", FLUSH)) for node in bench.names)
    restart = Restart(namespace=SYSTEM, selector=CALICO_NODE)
    return Plan([calico_node(bench, {"FELIX_IPV6SUPPORT": "false"}, restart, *flush)])


@plants_twins("F25", "NPOL-001/ipv4")
def a_family_is_allowed_ahead_of_all_policies(_: Bench, family: Family) -> Plan:
    return ahead_of_all(f"allow-{family}", {"action": "Allow", "ipVersion": family.version})


@plants_twins("NPOL-008/port", "NPOL-008/port-ipv4")
def a_port_beside_a_range_is_allowed(_: Bench, family: Family) -> Plan:
    port = {"protocol": "UDP", "destination": {"ports": [8083]}}
    return ahead_of_all(f"port-{family}", {"action": "Allow", "ipVersion": family.version, **port})


@plants("NPOL-009/type")
def another_icmpv6_type_is_allowed(_: Bench) -> Plan:
    rule = {"action": "Allow", "ipVersion": 6, "protocol": "ICMPv6", "icmp": {"type": 139}}
    return ahead_of_all("icmpv6", rule)


@plants("NPOL-010/solicitations")
def solicitations_to_host_endpoints_are_denied(_: Bench) -> Plan:
    rule = {"action": "Deny", "ipVersion": 6, "protocol": "ICMPv6", "icmp": {"type": 135}}
    return ahead_of_all("solicitations", rule, f"{LABEL} == 'true'")


@plants("NPOL-012/headers")
def options_headers_pass_beside_policy(bench: Bench) -> Plan:
    """Copies that go to the pod as the node's own packets, which no policy of pods judges.

    An ACCEPT ahead of Felix's chain would not last: Felix reads the tables again after each of its
    own writes, such as the test's policy, and puts its rule first.
    """
    rules = [
        ("prerouting", -310, f"meta l4proto udp exthdr {header} exists dup to ip6 daddr")
        for header in ("hbh", "dst")
    ]
    return Plan([nft(node, Family.IPV6, *rules) for node in bench.names])
