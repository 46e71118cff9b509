"""Faults of policy."""

from __future__ import annotations

from typing import Final

from helpers.faults.bench import Bench
from helpers.faults.common import CALICO_CRD
from helpers.faults.objects import Whole
from helpers.faults.plans import Plan, plants
from helpers.policy.objects import Object, global_policy

TIER: Final = "dsfault"


@plants("F25")
def ipv6_is_allowed_ahead_of_all_policies(_: Bench) -> Plan:
    """In a tier of its own, which passes IPv4 on.

    A policy of the default tier that says nothing of IPv4 would deny it to every pod that no other
    policy selects: what no rule of a tier matches is denied at its end.
    """
    tier: Object = {
        "apiVersion": CALICO_CRD,
        "kind": "Tier",
        "metadata": {"name": TIER},
        "spec": {"order": 1, "defaultAction": "Pass"},
    }
    rules: list[Object] = [{"action": "Allow", "ipVersion": 6}]
    policy = global_policy("allow-ipv6", "all()", order=0, ingress=rules, egress=rules, tier=TIER)
    return Plan([_made("Tier", tier), _made("GlobalNetworkPolicy", policy)])


def _made(kind: str, manifest: Object) -> Whole:
    name = manifest["metadata"]["name"]
    return Whole(api_version=CALICO_CRD, kind=kind, name=name, manifest=manifest)
