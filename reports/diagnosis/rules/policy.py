"""Causes why policy or anti-spoofing holds for one family and not for the other."""

from __future__ import annotations

from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Extra, Fact, Fails, Finding, Holds, Missing, Seen

ENFORCED: Final = ("NPOL-001", "NPOL-002", "NPOL-003", "NPOL-004", "NPOL-005", "NPOL-011")
MORE: Final = ("NPOL-006", "NPOL-007", "NPOL-008", "NPOL-009", "NPOL-010", "NPOL-012", "EGR-005")


def policy_allows_all(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """A GlobalNetworkPolicy for everything that allows all of one family, and not of both."""
    if case.cluster is None:
        return Missing("policies were not observed", known=False)
    wide = [
        policy
        for policy in case.cluster.global_policies
        if family.value in policy.allows_all and policy.selector in ("", "all()")
    ]
    if not wide:
        return Missing(f"no GlobalNetworkPolicy for all() allows all {family.kubernetes}")
    told = tuple(
        f"GlobalNetworkPolicy {policy.name}: order {policy.order}, selector all(), allows all "
        f"{' and '.join(policy.allows_all)}"
        for policy in wide
    )
    return Seen(
        told, values={"policy": tuple(policy.name.removeprefix("default.") for policy in wide)}
    )


def spoofing_allowed(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """FelixConfigurations that let pods ask for foreign sources."""
    if case.cluster is None:
        return Missing("FelixConfiguration was not observed", known=False)
    found = tuple(
        name
        for name, spec in case.cluster.felix.items()
        if spec.get("workloadSourceSpoofing") == "Any"
    )
    if not found:
        return Missing("workloadSourceSpoofing is Any in no FelixConfiguration")
    told = tuple(f"FelixConfiguration {name}: workloadSourceSpoofing is Any" for name in found)
    return Seen(told, values={"configuration": found})


def other_family_enforced(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Whether policy holds over the other family, for the sentence."""
    fine = [name for name in ENFORCED if case.passed(name, family.other)]
    text = f" while {family.other.kubernetes} is enforced" if fine else ""
    return Seen(values={"enforced": (text,)})


SPOOFED: Final = Finding(
    ("PKT-018",),
    r"from (?P<pod>(?:second )?pod on \S+) with source (?P<source>\S+) \((?P<whose>[^)]*)\), not "
    r"its own, was seen",
    "IPv6 udp to the pod on b from pod on a with source fd00:10:244::13 (another pod of the node), "
    "not its own, was seen on eth0 of the pod on b: anti-spoofing is off for this pod",
)

RULES: Final = (
    Rule(
        name="felix-ipv6-off",
        faults=("F05", "CFG-013/felix"),
        depth=Depth.SETTING,
        cause="Felix IPv6 support is off on {node_count} nodes ({node}; {setting}): IPv6 works but "
        "NetworkPolicy and anti-spoofing are NOT enforced for IPv6",
        fix=(
            "kubectl -n kube-system set env daemonset/calico-node -c calico-node "
            "FELIX_IPV6SUPPORT=true",
            "kubectl patch felixconfiguration default --type merge "
            '-p \'{{"spec":{{"ipv6Support":true}}}}\'   # where it says false',
        ),
        signs=(
            Finding(
                ("CFG-013",),
                r"Felix FAMILY support is off on node (?P<node>\S+) \((?P<setting>[^)]*)\)",
                "Felix IPv6 support is off on node worker (FELIX_IPV6SUPPORT of calico-node is "
                "false): IPv6 works but NetworkPolicy and anti-spoofing are NOT enforced for IPv6",
            ),
            Extra(Fails((*ENFORCED, "PKT-018"))),
        ),
        explains=(
            *ids("CFG-013 CFG-018 PKT-018 PKT-017 PKT-009"),
            *ENFORCED,
            *MORE,
        ),
        families=(Family.IPV6,),
    ),
    Rule(
        name="global-policy-allows-family",
        faults=("F25", "NPOL-001/ipv4"),
        depth=Depth.SETTING,
        cause="GlobalNetworkPolicy {policy} allows all {ip} ahead of namespace policy: {ip} "
        "bypasses default-deny{enforced} (Felix IPv6 is on)",
        fix=(
            "kubectl delete globalnetworkpolicy {policy}, or give it a narrower selector or an "
            "order above 1000, where namespace policy is read first",
        ),
        signs=(
            Fails(ENFORCED),
            Fact("a GlobalNetworkPolicy for all() allows all of the family", policy_allows_all),
            Holds(("CFG-013", "PKT-018")),
            Fact("", other_family_enforced),
        ),
        explains=(*ENFORCED, *MORE),
    ),
    Rule(
        name="spoofing-allowed",
        faults=("F19",),
        depth=Depth.SETTING,
        cause="The {pod_first} sent {ip} with source {source_first} ({whose_first}) that is not "
        "its own and it was delivered: anti-spoofing is off for it (workloadSourceSpoofing is Any)",
        fix=(
            "kubectl patch felixconfiguration {configuration} --type merge "
            '-p \'{{"spec":{{"workloadSourceSpoofing":"Disabled"}}}}\'',
            "remove annotation cni.projectcalico.org/allowedSourcePrefixes from the pods",
        ),
        signs=(
            SPOOFED,
            Holds(("CFG-013",)),
            Fact("workloadSourceSpoofing is Any", spoofing_allowed),
        ),
        explains=ids("PKT-018 PKT-017 PKT-019"),
    ),
    Rule(
        name="spoofed-sources-pass",
        faults=("PKT-018/raw-accept",),
        depth=Depth.STATE,
        cause="The {pod_first} sent {ip} with source {source_first} ({whose_first}) that is not "
        "its own and it was delivered, although Felix is to check sources: its rule is not there "
        "or is bypassed",
        fix=(
            "on the pod's node: the rule `fib saddr . mark . iif oif 0 drop` (nftables) or "
            "`rpfilter --invert` (iptables) in Calico's raw PREROUTING must come first",
            "kubectl -n kube-system logs on the node's calico-node: does Felix program {ip}?",
        ),
        signs=(SPOOFED, Holds(("CFG-013",))),
        explains=ids("PKT-018 PKT-017 PKT-019"),
    ),
)
