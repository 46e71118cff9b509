"""Causes in kube-proxy and cluster DNS."""

from __future__ import annotations

import re
from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values, unique
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Extra, Fact, Fails, Finding, Holds, Missing, Seen, key_of

RESTART: Final = "kubectl -n kube-system rollout restart daemonset/kube-proxy"
PROGRAMMED: Final = ids(
    "SVC-004 SVC-007 SVC-009 SVC-010 SVC-011 SVC-012 SVC-013 SVC-014 SVC-015 SVC-016 PRX-001 "
    "PRX-002 PRX-003 PRX-004 PRX-005 PRX-006 PRX-007 NPOL-011 EGR-009 RES-004"
)


def template_for_record(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """A template or rewrite in the Corefile that is about the family's record."""
    text = case.cluster.corefile if case.cluster else ""
    lines = [
        line.strip()
        for line in text.splitlines()
        if re.search(rf"\b(template|rewrite|rcode)\b.*\b{family.record}\b", line)
    ]
    if not lines:
        return Missing(f"the Corefile has no template for {family.record}", known=bool(text))
    return Seen(tuple(f"Corefile: {line}" for line in lines), values={"line": tuple(lines)})


def node_port_addresses(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """nodePortAddresses of kube-proxy, where it is set."""
    if case.cluster is None or not case.cluster.kube_proxy:
        return Missing("kube-proxy's configuration was not observed", known=False)
    listed = case.cluster.kube_proxy.get("nodePortAddresses") or []
    if not listed:
        return Missing("nodePortAddresses is not set")
    told = ", ".join(map(str, listed))
    return Seen((f"kube-proxy: nodePortAddresses {told}",), values={"ranges": (told,)})


def silent_node_ports(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Nodes whose NodePorts nobody reaches, with those whose do."""
    cells = case.cells("SVC-010", family)
    bad = {node for cell in cells if not cell.good and (node := case.node_of(cell.target))}
    if not bad:
        return Missing("no cell of SVC-010 names a node")
    return Seen(values={"node": tuple(sorted(bad))})


def unserved_clients(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """The one node from which new Services are not reached, while they are from others."""
    for requirement in ("SVC-007", "SVC-014", "SVC-004"):
        cells = [c for c in case.cells(requirement, family) if case.node_of(c.source)]
        bad = {case.node_of(cell.source) for cell in cells if not cell.good}
        good = {case.node_of(cell.source) for cell in cells if cell.good} - bad
        if len(bad) == 1 and good:
            (node,) = bad
            lost = unique(f"{c.source} -> {c.target}" for c in cells if not c.good)
            told = f"{requirement} [{family}]: {', '.join(lost)}; from other nodes it works"
            key = key_of(case, requirement, family)
            return Seen((told,), (key,), {"node": (str(node),)})
    known = case.result("SVC-007", family) is not None
    return Missing("no single node is without Services", known=known)


def other_names_resolve(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Whether names resolve over the other family, as far as that was asked."""
    asked = ("SVC-017", "SVC-005", "EGR-009")
    fine = [name for name in asked if case.passed(name, family.other)]
    broken = [name for name in asked if case.failed(name, family.other)]
    if broken:
        return Missing(f"{', '.join(broken)} fails over {family.other.kubernetes}, too")
    return Seen((f"over {family.other.kubernetes} {', '.join(fine)} hold",) if fine else ())


def place_in_corefile(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Where the Corefile says it, for the sentence."""
    lines = [line for line in bound.get("line", ()) if line]
    return Seen(values={"where": (f" (`{lines[0]}`)" if lines else "",)})


def what_ipvs_lacks(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """What is not there when ipvs was declared and another mode runs."""
    ipvs = bound.get("declared") == ("ipvs",)
    return Seen(values={"lack": (": no kube-ipvs0, no IPVS virtual servers" if ipvs else "",)})


RULES: Final = (
    Rule(
        name="proxy-does-not-know-cluster-cidr",
        faults=("F06",),
        depth=Depth.SETTING,
        cause="kube-proxy knows no {ip} cluster CIDR (clusterCIDR={cidrs}): {ip} ClusterIP traffic "
        "from outside is not masqueraded. The flag is --cluster-cidr; --cluster-cidrs does not "
        "exist",
        fix=(
            "kubectl -n kube-system edit configmap kube-proxy   # config.conf: clusterCIDR: "
            "V4CIDR,V6CIDR",
            RESTART,
        ),
        signs=(
            Finding(
                ("CFG-008",),
                r"kube-proxy on (?P<node>\S+) knows no FAMILY cluster CIDR "
                r"\(clusterCIDR=(?P<cidrs>.*?)\): ",
                "kube-proxy on worker knows no IPv6 cluster CIDR (clusterCIDR=10.244.0.0/16): IPv6 "
                "ClusterIP traffic from outside is not masqueraded",
            ),
        ),
        explains=ids("CFG-008 PRX-005 RES-004 SVC-011"),
    ),
    Rule(
        name="proxy-in-another-mode",
        faults=("F07", "CFG-007/mode"),
        depth=Depth.SETTING,
        cause="kube-proxy on {node} runs {mode}, profile requires {declared}{lack}",
        fix=(
            "kubectl -n kube-system edit configmap kube-proxy   # config.conf: mode: {declared}",
            "on each node: kube-proxy --cleanup, so that nothing is left of {mode}",
            RESTART,
        ),
        signs=(
            Finding(
                ("CFG-007",),
                r"kube-proxy on (?P<node>\S+) runs (?P<mode>\S+), profile requires "
                r"(?P<declared>\w+)",
                "kube-proxy on worker runs iptables, profile requires ipvs: set mode in its "
                "ConfigMap (kube-system/kube-proxy) and restart it",
            ),
            Fact("", what_ipvs_lacks),
        ),
        explains=ids("CFG-007 CFG-018 PRX-001 PRX-002 PRX-003 PRX-004 PRX-006 PRX-007"),
    ),
    Rule(
        name="proxy-not-syncing",
        faults=("F24", "PRX-001/frozen"),
        depth=Depth.STATE,
        cause="kube-proxy on {node} is not syncing: {door_count} addresses of Services are missing "
        "from, or stale in, its rules ({ip})",
        fix=(
            "kubectl -n kube-system logs kube-proxy-POD and `ps -o stat -C kube-proxy` on {node} "
            "(T: stopped)",
            "kubectl -n kube-system delete pod kube-proxy-POD   # of {node}",
        ),
        signs=(
            Finding(
                ("PRX-007", "PRX-001", "PRX-002", "PRX-003", "PRX-004"),
                r"(?:rules of|on) (?P<place>[\w.-]+): (?P<door>no \S+ for \S+|\S+ is there|\S+).*"
                r"kube-proxy on (?P<node>[\w.-]+) does not follow the API",
                "IPv6 nftables rules of worker: no rule for [fd00::5]:80/tcp of Service ns/a: "
                "kube-proxy on worker does not follow the API; look at its log and restart it",
            ),
            Extra(Fact("clients of that node alone are not served", unserved_clients)),
        ),
        explains=PROGRAMMED,
    ),
    Rule(
        name="services-not-served-on-node",
        faults=("F24",),
        depth=Depth.TRAFFIC,
        cause="kube-proxy on {node} is not syncing: clients there do not reach new {ip} Services, "
        "which clients of other nodes reach",
        fix=(
            "kubectl -n kube-system logs kube-proxy-POD and `ps -o stat -C kube-proxy` on {node} "
            "(T: stopped)",
            "kubectl -n kube-system delete pod kube-proxy-POD   # of {node}",
        ),
        signs=(
            Fact("new Services are not reached from one node alone", unserved_clients),
            Holds(("CONN-002", "CONN-011")),
        ),
        explains=PROGRAMMED,
    ),
    Rule(
        name="node-port-addresses",
        faults=("R5",),
        depth=Depth.SETTING,
        cause="NodePorts do not answer on {ip} of node {node}: nodePortAddresses of kube-proxy is "
        "{ranges}",
        fix=(
            "kubectl -n kube-system edit configmap kube-proxy   # config.conf: nodePortAddresses: "
            "[], or networks of both families that hold the nodes' InternalIPs",
            RESTART,
        ),
        signs=(
            Fails(("SVC-010",)),
            Fact("nodePortAddresses is set", node_port_addresses),
            Extra(Fact("", silent_node_ports)),
            Holds(("SVC-007",)),
        ),
        explains=ids("SVC-010 PRX-002 PRX-007 SVC-011 NPOL-011"),
    ),
    Rule(
        name="dns-suppresses-family",
        faults=("F23",),
        depth=Depth.STATE,
        cause="Cluster DNS answers {code} for {record} while {otherrecord} resolves: {ip} names "
        "are suppressed in CoreDNS{where}",
        fix=(
            "kubectl -n kube-system edit configmap coredns   # remove the template or rewrite for "
            "{record}; the reload plugin takes it up within a minute",
        ),
        signs=(
            Finding(
                ("SVC-017", "SVC-005", "EGR-009"),
                r"is answered (?P<code>NXDOMAIN|NODATA|REFUSED), expected (?!NODATA)",
                "pod on worker: AAAA svc.ns.svc.cluster.local. over udp is answered NXDOMAIN, "
                "expected fd00:10:96::5: AAAA is suppressed or the name unknown",
            ),
            Fact("the other family's names resolve", other_names_resolve),
            Extra(Fact("the Corefile says so", template_for_record), {"line": ""}),
            Fact("", place_in_corefile),
        ),
        explains=ids("SVC-005 SVC-017 EGR-009 EGR-010 NPOL-005"),
    ),
)
