"""Faults of what Services promise beyond ClusterIPs: refusals, policies, affinity, and the like.

What the API is told about a Service is changed on its way in by an admission policy, which sees
every Service of the suite and nothing else: so a setting is lost as if nobody had asked for it.
"""

from __future__ import annotations

from typing import Any, Final

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Change, NftTable, Rule
from helpers.faults.common import nft
from helpers.faults.objects import Whole
from helpers.faults.plans import Plan, plants
from helpers.model import FAMILIES, Family
from helpers.service_external import RANGES

ADMISSION: Final = "admissionregistration.k8s.io/v1"
POLICY: Final = "dsfault"
MANAGED: Final = "object.metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') != ''"


def _admission(name: str, expression: str, match: str) -> list[Change]:
    """Services of the suite are changed by a CEL expression before the API judges them."""
    name = f"{POLICY}-{name}"
    policy: dict[str, Any] = {
        "apiVersion": ADMISSION,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["services"],
                    }
                ]
            },
            "matchConditions": [{"name": "meant", "expression": match}],
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}},
            ],
        },
    }
    binding = {
        "apiVersion": ADMISSION,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    return [
        Whole(api_version=ADMISSION, kind=str(one["kind"]), name=name, manifest=one)
        for one in (policy, binding)
    ]


def _lost(field: str, value: str) -> list[Change]:
    """A field of Service.spec that the suite asks for is set to something else."""
    return _admission(
        field.lower(),
        f"[JSONPatch{{op: 'replace', path: '/spec/{field}', value: '{value}'}}]",
        f"{MANAGED} && has(object.spec.{field}) && object.spec.{field} != '{value}'",
    )


@plants("SVC-003/admission")
def impossible_families_are_made_possible(_: Bench) -> Plan:
    """An admission policy leaves out families that cannot be: the API then accepts."""
    return Plan(
        _admission(
            "families",
            "[JSONPatch{op: 'remove', path: '/spec/ipFamilies'}]",
            "has(object.spec.ipFamilies) && object.spec.ipFamilies.size() == 2 && "
            "object.spec.ipFamilies[0] == object.spec.ipFamilies[1]",
        )
    )


@plants("SVC-008/drop")
def sctp_is_dropped(bench: Bench) -> Plan:
    drop = ("forward", -10, "meta l4proto sctp drop")
    return Plan([nft(node, family, drop) for node in bench.names for family in FAMILIES])


@plants("SVC-011/source")
def clients_of_node_ports_are_masqueraded(bench: Bench) -> Plan:
    """What comes from the outside's networks and was translated leaves to pods as the node."""
    outside = bench.cluster.outside
    if outside is None:
        raise FaultError("the cluster has no host outside")
    source = outside.internet.require(Family.IPV6)
    rule = Rule(
        hook="postrouting",
        priority=90,
        type="nat",
        rule=f'ip6 saddr {source} ct status dnat oifname "cali*" masquerade',
    )
    return Plan([NftTable(node=node, family=Family.IPV6, rules=(rule,)) for node in bench.names])


@plants("SVC-011/external")
def external_policies_are_lost(_: Bench) -> Plan:
    return Plan(_lost("externalTrafficPolicy", "Cluster"))


@plants("SVC-011/internal")
def internal_policies_are_lost(_: Bench) -> Plan:
    return Plan(_lost("internalTrafficPolicy", "Cluster"))


@plants("SVC-012/affinity")
def session_affinity_is_lost(_: Bench) -> Plan:
    return Plan(
        _admission(
            "affinity",
            "[JSONPatch{op: 'remove', path: '/spec/sessionAffinityConfig'}, "
            "JSONPatch{op: 'replace', path: '/spec/sessionAffinity', value: 'None'}]",
            f"{MANAGED} && object.spec.?sessionAffinity.orValue('None') == 'ClientIP'",
        )
    )


@plants("SVC-013/drop")
def external_addresses_are_dropped(bench: Bench) -> Plan:
    """Before anything translates them, on one worker and in IPv6."""
    drop = f"ip6 daddr {RANGES[Family.IPV6]} drop"
    return Plan([nft(bench.worker, Family.IPV6, ("prerouting", -310, drop))])


@plants("SVC-015/silence")
def refusals_are_lost(bench: Bench) -> Plan:
    """Refusals of a node's rules are ICMP errors that the node itself sends."""
    rules = {
        Family.IPV4: "icmp type destination-unreachable icmp code port-unreachable drop",
        Family.IPV6: "icmpv6 type destination-unreachable drop",
    }
    return Plan(
        [
            nft(node, family, ("output", -10, rule), ("output", -9, "tcp flags rst drop"))
            for node in bench.names
            for family, rule in rules.items()
        ]
    )


@plants("SVC-016/hairpin")
def masqueraded_hairpins_are_dropped(bench: Bench) -> Plan:
    """A pod's request that left for a Service and comes back to pods as the node's."""
    worker = bench.worker
    (block, *_) = bench.blocks(worker, Family.IPV6)
    node = bench.address(worker, Family.IPV6)
    rule = f'ct status dnat ct original ip6 saddr {block} ip6 saddr {node} oifname "cali*" drop'
    return Plan([nft(worker, Family.IPV6, ("postrouting", 110, rule))])


@plants("SVC-018/api")
def pods_do_not_reach_the_api(bench: Bench) -> Plan:
    found = bench.kube.get("v1", "Service", "kubernetes", "default")
    if found is None:
        raise FaultError("there is no Service default/kubernetes")
    address = found["spec"]["clusterIP"]
    family = Family.of(address)
    header = "ip" if family is Family.IPV4 else "ip6"
    drop = f'iifname "cali*" {header} daddr {address} drop'
    return Plan([nft(bench.worker, family, ("prerouting", -310, drop))])
