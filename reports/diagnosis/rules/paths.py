"""Causes that only traffic shows: where packets are lost, and whose address they bear."""

from __future__ import annotations

from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values, unique
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Fact, Finding, Holds, Missing, Seen, key_of, not_broken
from reports.diagnosis.words import Loss, losses

PATH: Final = ids(
    "CONN-002 CONN-003 CONN-005 CONN-006 CONN-009 CONN-010 CONN-008 SVC-007 SVC-009 SVC-010 "
    "SVC-014 SVC-012 PKT-001 PKT-002 PKT-005 PKT-011 PKT-013 PKT-018 NPOL-001 NPOL-002 NPOL-003 "
    "NPOL-008 EGR-011"
)
# What else would explain a loss between pods of two nodes: not to be found broken.
NOT_BROKEN: Final = ("CFG-009", "CFG-010", "CFG-012", "RTE-001", "RTE-002")


def lost_between_nodes(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Losses between pods of different nodes, with the direction, the share and what is fine."""
    cells = case.cells("CONN-002", family)
    loss = losses(case, cells)
    if loss is None:
        return not_broken(case, "CONN-002", family)
    place = f", so the loss is on the pod path at {loss.at}" if loss.at else ""
    shares = unique(cell.note for cell in cells if not cell.good and "datagrams" in cell.note)
    words = {
        "path": loss.path,
        "share": f" (one-way UDP: {', '.join(shares)}{_opposite(loss)})" if shares else "",
        "place": place,
        "node": loss.at or ", ".join(loss.nodes),
    }
    bad = unique(f"{c.source} -> {c.target} {c.detail}" for c in cells if not c.good)
    told = f"CONN-002 [{family}]: {', '.join(bad[:6])}" + (", ..." if len(bad) > 6 else "")
    return Seen((told,), (key_of(case, "CONN-002", family),), {k: (v,) for k, v in words.items()})


def _opposite(loss: Loss) -> str:
    return "; the opposite direction works" if loss.opposite_works else ""


def masquerader(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Whose address it is that the receivers saw: a node's."""
    if case.cluster is None:
        return Missing("the nodes were not observed", known=False)
    owners = {address: n.name for n in case.cluster.nodes for address in n.addresses}
    seen = bound.get("seen", ())
    found = unique(owners[address] for address in seen if address in owners)
    if not found:
        return Missing(f"{', '.join(seen)} is no node's address")
    told = tuple(f"{a} is the address of node {owners[a]}" for a in seen if a in owners)
    return Seen(told, values={"node": found})


def lost_within_nodes(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Nodes whose pods do not reach each other, by CONN-001."""
    return _bad_ends(case, "CONN-001", family)


def outside_not_reached(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Nodes whose pods do not reach the outside, unless it is echo that nobody gets anywhere."""
    requirement = "EGR-001" if family is Family.IPV4 else "EGR-002"
    lost = {cell.detail for cell in case.cells(requirement, family) if not cell.good}
    if lost == {"echo"} and case.failed("CONN-003", family):
        return Missing(f"{requirement} fails for echo only, and so does CONN-003")
    return _bad_ends(case, requirement, family)


def _bad_ends(case: Case, requirement: str, family: Family) -> Seen | Missing:
    bad = [cell for cell in case.cells(requirement, family) if not cell.good]
    if not bad:
        return not_broken(case, requirement, family)
    nodes = unique(node for cell in bad if (node := case.node_of(cell.source)))
    lost = unique(f"{cell.source} -> {cell.target} {cell.detail}" for cell in bad)
    told = f"{requirement} [{family}]: {', '.join(lost[:6])}"
    return Seen((told,), (key_of(case, requirement, family),), {"node": nodes})


def resolution_words(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """How the family asks for a neighbour."""
    v4 = family is Family.IPV4
    asks = "ARP requests" if v4 else "neighbour solicitations"
    return Seen(values={"asks": (asks,), "setting": ("proxy_arp" if v4 else "proxy_ndp",)})


RULES: Final = (
    Rule(
        name="pod-path-loses",
        faults=("F12", "CONN-002/ipv4"),
        depth=Depth.TRAFFIC,
        cause="{ip} packets {path} are lost{share}; node-to-node {ip} is fine{place}",
        fix=(
            "on {node}: nft list ruleset | grep -B5 drop, and ip6tables-save / iptables-save: look "
            "for rules on forwarded packets that neither Calico nor kube-proxy made",
            "kubectl get globalnetworkpolicy,networkpolicy -A   # none should select the agents",
        ),
        signs=(
            Fact("pods of different nodes do not reach each other (CONN-002)", lost_between_nodes),
            Holds(NOT_BROKEN),
            Holds(("CONN-001",)),
        ),
        explains=PATH,
        local=False,
    ),
    Rule(
        name="pods-of-a-node-do-not-reach-each-other",
        faults=("CONN-001/same-node",),
        depth=Depth.TRAFFIC,
        cause="{ip} packets between pods of the same node are lost on {node}, before any network "
        "between nodes",
        fix=(
            "on {node}: nft list ruleset | grep -B5 drop, and ip6tables-save / iptables-save: look "
            "for rules on packets from cali to cali interfaces",
        ),
        signs=(
            Fact("pods of one node do not reach each other (CONN-001)", lost_within_nodes),
            Holds(("CFG-010",)),
        ),
        explains=(
            *ids("CONN-001 CONN-003 CONN-005 CONN-014"),
            *PATH,
        ),
    ),
    Rule(
        name="pods-are-masqueraded",
        faults=("F17",),
        depth=Depth.STATE,
        cause="Pod-to-pod {ip} from the {source_first} arrives with the address {seen_first} of "
        "node {node}: something masquerades pod {ip}",
        fix=(
            "on {node}: nft list ruleset | grep -B5 masquerade, and ip6tables-save -t nat / "
            "iptables-save -t nat: a rule that is not Calico's (cali-nat-outgoing) or kube-proxy's",
            "ip-masq-agent and the like: except the pod CIDRs of both families",
        ),
        signs=(
            Finding(
                ("CONN-005",),
                r"from the (?P<source>.+?) arrived at the (?P<target>.+?) with source "
                r"(?P<seen>[0-9a-f.:]+), expected",
                "tcp from the pod on a arrived at the pod on b with source fd00:10:243::3, "
                "expected fd00:10:244::13: look for masquerade rules on the sender's node",
            ),
            Fact("the source that was seen is a node's", masquerader),
            Holds(("PODIP-004", "CFG-015")),
        ),
        explains=ids(
            "CONN-005 CONN-006 NPOL-002 NPOL-003 NPOL-011 NPOL-001 NPOL-008 PRX-005 SVC-011 PKT-018"
        ),
    ),
    Rule(
        name="nat-outgoing-differs",
        faults=("F15", "F16"),
        depth=Depth.SETTING,
        cause="External host saw {seen_first} instead of {promise_first}: natOutgoing is {value} "
        "on the {ip} pool {pool}, the profile declares {declared}",
        fix=(
            "kubectl patch ippool {pool} --type merge "
            '-p \'{{"spec":{{"natOutgoing":{declared}}}}}\'',
        ),
        signs=(
            Finding(
                ("EGR-003", "EGR-004", "EGR-005"),
                r"the outside saw (?P<seen>.+?) instead of (?P<promise>.+?); IPPool (?P<pool>\S+) "
                r"has natOutgoing: (?P<value>\w+), the profile declares (?P<declared>\w+)",
                "pod pod-agent-x on worker: the outside saw 10.244.1.3 instead of an address of "
                "node worker (10.243.0.3); IPPool default-ipv4-ippool has natOutgoing: false, the "
                "profile declares true: change the one or the other",
            ),
        ),
        explains=ids(
            "EGR-001 EGR-002 EGR-003 EGR-004 EGR-005 EGR-006 EGR-007 EGR-008 EGR-009 CONN-012"
        ),
        apart=True,
    ),
    Rule(
        name="gateway-not-resolved",
        faults=("R2",),
        depth=Depth.STATE,
        cause="Pods on {node} cannot resolve their {ip} gateway ({asks} unanswered)",
        fix=(
            "on {node}: nft list ruleset, look for what drops {asks} that come in by cali "
            "interfaces",
            "on {node}: ip -{version} addr show dev CALI (the gateway's address must be there), "
            "sysctl net.ipv{version}.conf.CALI.{setting} must be 1",
        ),
        signs=(
            Finding(
                ("CONN-014",),
                r"pod on (?P<node>\S+) does not resolve its FAMILY gateway (?P<gateway>\S+) after",
                "pod on worker does not resolve its IPv6 gateway fe80::ecee:eeff:feee:eeee after "
                "its neighbours were flushed (it has no answer, cali1 is ee:ee:ee:ee:ee:ee)",
            ),
            Fact("", resolution_words),
        ),
        explains=(
            *ids(
                "CONN-014 NPOL-006 PODIP-007 CONN-001 CONN-002 CONN-003 EGR-001 EGR-002 CONN-012 "
                "CONN-011"
            ),
            *PATH,
        ),
        local=True,
    ),
    Rule(
        name="pods-do-not-reach-outside",
        faults=("EGR-001/drop",),
        depth=Depth.TRAFFIC,
        cause="pods on {node} do not reach the outside over {ip}, although pods reach each other "
        "and the nodes have a default route",
        fix=(
            "on {node}: nft list ruleset: rules that drop what leaves cali interfaces for the "
            "outside; then the outside's route back to the pod CIDR",
        ),
        signs=(
            Fact("pods do not reach the outside (EGR-001, EGR-002)", outside_not_reached),
            Holds(("CFG-010", "CONN-002", "CFG-009", "EGR-003", "EGR-004")),
        ),
        explains=ids(
            "EGR-001 EGR-002 EGR-003 EGR-004 EGR-005 EGR-007 EGR-008 EGR-009 EGR-011 EGR-010 "
            "PRX-005"
        ),
    ),
)
