"""Faults of what Services promise beyond ClusterIPs: refusals, policies, affinity, and the like.

What the API is told about a Service is changed on its way in by an admission policy, which sees
every Service of the suite and nothing else: so a setting is lost as if nobody had asked for it.
"""

from __future__ import annotations

from typing import Any, Final

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Change
from helpers.faults.common import nft
from helpers.faults.objects import Whole
from helpers.faults.plans import Plan, plants
from helpers.model import Family
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
