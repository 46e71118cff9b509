"""Causes that concern kinds of packets: fragments, extension headers, ICMP errors."""

from __future__ import annotations

from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values, names, unique
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Fact, Holds, Missing, Seen, key_of
from reports.diagnosis.words import losses

WHERE_DROPPED: Final = (
    "on {node}: nft list ruleset and ip6tables-save: look for rules about {what} that neither "
    "Calico nor kube-proxy made (a hook before -400 sees fragments, later ones do not)"
)


def nodes_named(case: Case, requirements: tuple[str, ...], family: Family) -> tuple[str, ...]:
    """Nodes that findings or broken cells of some requirements have in common, else all of them."""
    texts = [sentence for name in requirements for sentence in case.findings(name, family)] + [
        f"{cell.source} {cell.target}"
        for name in requirements
        for cell in case.cells(name, family)
        if not cell.good
    ]
    named = [{node for node in case.nodes if names(text, node)} for text in texts]
    named = [nodes for nodes in named if nodes]
    common = set.intersection(*named) if named else set()
    every = set().union(*named)
    return tuple(node for node in case.nodes if node in (common or every))


def fragments_lost(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Datagrams that need fragments are lost where TCP passes (CONN-009, PKT-005)."""
    cells = case.cells("CONN-009", family)
    bad = [cell for cell in cells if not cell.good]
    sizes = unique(sorted((cell.detail for cell in bad), key=_octets))
    tcp = [cell for cell in bad if cell.detail.startswith("tcp")]
    keys = tuple(
        key_of(case, name, family) for name in ("CONN-009", "PKT-005") if case.failed(name, family)
    )
    if not keys:
        verdict = case.verdict("CONN-009", family) or case.verdict("PKT-005", family)
        return Missing(
            f"CONN-009 and PKT-005 [{family}]: {verdict or 'not run'}", verdict is not None
        )
    if tcp:
        return Missing("TCP, which is not fragmented, is lost, too")
    if cells and not bad:
        return Missing("no datagram is lost")
    loss = losses(case, cells)
    lost = (loss.at,) if loss and loss.at else nodes_named(case, ("CONN-009", "PKT-005"), family)
    told = [f"CONN-009 [{family}]: {', '.join(sizes)} lost, TCP 64 MiB intact"] if bad else []
    if case.failed("PKT-005", family):
        told.append(f"PKT-005 [{family}]: {case.said('PKT-005', family)}")
    words = {"size": sizes or ("2400 bytes",), "node": lost, "what": ("fragments",)}
    return Seen(tuple(told), keys, words)


def _octets(detail: str) -> int:
    """``udp 2000 bytes`` by its number."""
    return int("".join(filter(str.isdigit, detail)) or 0)


def headers_lost(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Where packets with hop-by-hop or destination options are lost."""
    keys = tuple(
        key_of(case, name, family) for name in ("PKT-001", "PKT-002") if case.failed(name, family)
    )
    if len(keys) < 2:
        known = any(case.result(name, family) for name in ("PKT-001", "PKT-002"))
        told = "do not both fail" if known else "not run"
        return Missing(f"PKT-001 and PKT-002 {told}", known=known)
    node = nodes_named(case, ("PKT-001", "PKT-002"), family)
    said = tuple(f"{name} [{family}]: {case.said(name, family)}" for name, _ in keys)
    return Seen(said, keys, {"node": node, "what": ("extension headers",)})


def too_big_lost(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Where nobody is told that a packet is too big for the next link."""
    ids = ("PKT-015", "EGR-008")
    keys = tuple(key_of(case, name, family) for name in ids if case.failed(name, family))
    if not keys:
        return Missing(f"PKT-015 and EGR-008 [{family}] do not fail", _looked(case, ids, family))
    error = "Packet Too Big" if family is Family.IPV6 else "fragmentation needed"
    told = tuple(f"{name} [{family}]: {case.said(name, family)}" for name, _ in keys)
    words = {"node": nodes_named(case, ids, family), "error": (error,), "what": (error,)}
    return Seen(told, keys, words)


def _looked(case: Case, ids: tuple[str, ...], family: Family) -> bool:
    return any(case.result(name, family) is not None for name in ids)


def advertisement_taken(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """The node that believed a pod's Router Advertisement."""
    if not case.failed("PKT-016", family):
        known = case.result("PKT-016", family) is not None
        return Missing(f"PKT-016 [{family}] does not fail", known=known)
    told = tuple(f"PKT-016 [{family}]: {line}" for line in case.findings("PKT-016", family)[:3])
    return Seen(
        told, (key_of(case, "PKT-016", family),), {"node": nodes_named(case, ("PKT-016",), family)}
    )


RULES: Final = (
    Rule(
        name="fragments-dropped",
        faults=("F21",),
        depth=Depth.TRAFFIC,
        cause="{ip} fragments are dropped on node {node} before reassembly ({size} lost, datagrams "
        "that need no fragments delivered)",
        fix=(
            WHERE_DROPPED,
            "sysctl net.ipv6.ip6frag_high_thresh and net.ipv4.ipfrag_high_thresh "
            "on {node}: 0 switches reassembly off",
        ),
        signs=(
            Fact(
                "datagrams that need fragments are lost, TCP is not (CONN-009, PKT-005)",
                fragments_lost,
            ),
            Holds(("CONN-002",)),
        ),
        explains=ids("CONN-009 PKT-002 PKT-005 PKT-006 PKT-007 PKT-008 NPOL-012 SVC-007"),
    ),
    Rule(
        name="extension-headers-dropped",
        faults=("F22",),
        depth=Depth.TRAFFIC,
        cause="{ip} packets with extension headers (hop-by-hop, destination options) are dropped "
        "on node {node}; plain {ip} passes",
        fix=(WHERE_DROPPED,),
        signs=(
            Fact("both PKT-001 and PKT-002 fail", headers_lost),
            Holds(("CONN-001", "CONN-002", "CONN-003")),
        ),
        explains=ids("PKT-001 PKT-002 PKT-003 PKT-009 PKT-010 NPOL-012"),
        families=(Family.IPV6,),
    ),
    Rule(
        name="packet-too-big-dropped",
        faults=("F18",),
        depth=Depth.TRAFFIC,
        cause="{icmp} {error} is dropped on node {node}: PMTU discovery black hole (bulk TCP "
        "stalls)",
        fix=(
            WHERE_DROPPED,
            "let {icmp} {error} pass everywhere (RFC 4890 4.3.1, RFC 1191)",
        ),
        signs=(
            Fact("nobody is told that a packet is too big (PKT-015, EGR-008)", too_big_lost),
            Holds(("EGR-001", "EGR-002", "CONN-002", "CONN-003")),
        ),
        explains=ids("EGR-008 PKT-015 CONN-008"),
    ),
    Rule(
        name="router-advertisement-accepted",
        faults=("F20",),
        depth=Depth.STATE,
        cause="Router Advertisement from a pod installed a route or address on node {node} via its "
        "cali interface (accept_ra=2)",
        fix=(
            "on {node}: sysctl -a | grep 'cali.*accept_ra = [12]', and set each to 0 (Felix sets 0 "
            "when a workload comes; look for what sets it back)",
        ),
        signs=(Fact("a pod's Router Advertisement is believed (PKT-016)", advertisement_taken),),
        explains=ids("PKT-016 PKT-017 EGR-002 CFG-010"),
        families=(Family.IPV6,),
    ),
)
