"""Causes in the nodes themselves and in how Calico routes between them."""

from __future__ import annotations

from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values, names, unique
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import Extra, Fact, Finding, Holds, Missing, Seen, key_of, not_broken

# What needs routes to a node's pods, beyond what needs its own packets.
ROUTED: Final = ids(
    "CONN-002 CONN-003 CONN-005 CONN-006 CONN-008 CONN-009 CONN-010 CONN-011 CONN-012 SVC-004 "
    "SVC-007 SVC-009 SVC-010 SVC-011 SVC-012 SVC-014 SVC-016 EGR-007 EGR-008 EGR-009 EGR-011 "
    "PKT-001 PKT-002 PKT-005 PKT-011 PKT-012 PKT-013 PKT-015 PKT-018 PRX-005 NPOL-001 NPOL-002 "
    "NPOL-003 NPOL-004 NPOL-005 NPOL-006 NPOL-008 NPOL-011 SVC-005 SVC-017"
)


def node_in_all_sessions(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """The node whose sessions are all down: the one that every broken session has an end at."""
    pairs = [
        [node for node in case.nodes if names(sentence, node)]
        for sentence in case.findings("RTE-001", family)
        if "is not Established" in sentence
    ]
    common = set.intersection(*map(set, pairs)) if pairs else set()
    chosen = tuple(node for node in case.nodes if node in common)
    several = unique(node for pair in pairs for node in pair)
    if not several:
        return Missing("no session is down")
    return Seen(values={"node": chosen or several})


def broken_pairs(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """Ordered pairs of nodes that do not reach each other, by CFG-009."""
    bad = [cell for cell in case.cells("CFG-009", family) if not cell.good]
    if not bad:
        return not_broken(case, "CFG-009", family)
    pairs = unique(f"{cell.source} -> {cell.target}" for cell in bad)
    nodes = unique(node for cell in bad for node in (cell.source, cell.target))
    told = f"CFG-009 [{family}]: {', '.join(pairs)}"
    return Seen((told,), (key_of(case, "CFG-009", family),), {"pair": pairs, "node": nodes})


def bgp_words(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """What the family's BIRD, its control socket and calico-node's variable are called."""
    if family is Family.IPV4:
        words = {"bird": "BIRD", "ctl": "bird.ctl", "variable": "IP", "although": ""}
    else:
        although = " although calico-node is Ready: the readiness probe does not check IPv6 BGP"
        words = {"bird": "BIRD6", "ctl": "bird6.ctl", "variable": "IP6", "although": although}
    return Seen(values={name: (word,) for name, word in words.items()})


def encapsulation_words(case: Case, family: Family, bound: Values) -> Seen | Missing:
    """How packets of the pool travel."""
    native_ipip = bound.get("ipip") == ("Never",)
    return Seen(values={"kind": ("VXLAN, UDP 4789" if native_ipip else "IPIP, protocol 4",)})


RULES: Final = (
    Rule(
        name="forwarding-off",
        faults=("F11", "CFG-010/ipv4-forwarding"),
        depth=Depth.SETTING,
        cause="{ip} forwarding is off on node {node}: no pod on {node} can send or receive routed "
        "{ip}",
        fix=(
            "on {node}: sysctl -w {sysctl}=1, and in /etc/sysctl.d so that it stays",
            "look for what sets it back (cloud agents, other software of the network)",
        ),
        signs=(
            Finding(
                ("CFG-010",),
                r"FAMILY forwarding is off on node (?P<node>[^\s:]+): sysctl (?P<sysctl>\S+)",
                "IPv6 forwarding is off on node worker: sysctl net.ipv6.conf.all.forwarding is 0, "
                "must be 1",
            ),
        ),
        explains=(
            *ids("CFG-010 CONN-001 CONN-014 EGR-001 EGR-002 EGR-003 EGR-004 EGR-005 PODIP-007"),
            *ROUTED,
        ),
        local=True,
    ),
    Rule(
        name="ipv6-switched-off",
        faults=(),
        depth=Depth.SETTING,
        cause="IPv6 is switched off on node {node} by sysctl {sysctl}",
        fix=("on {node}: sysctl -w {sysctl}=0, and in /etc/sysctl.d so that it stays",),
        signs=(
            Finding(
                ("CFG-010",),
                r"FAMILY is switched off on node (?P<node>[^\s:]+): sysctl (?P<sysctl>\S+)",
                "IPv6 is switched off on node worker: sysctl net.ipv6.conf.all.disable_ipv6 is 1, "
                "must be 0",
            ),
        ),
        explains=(
            *ids(
                "CFG-005 CFG-009 CFG-010 CFG-012 CONN-001 EGR-002 EGR-004 PODIP-002 PODIP-006 "
                "PODIP-007 RTE-001 RTE-002"
            ),
            *ROUTED,
        ),
        local=True,
        families=(Family.IPV6,),
    ),
    Rule(
        name="no-default-route",
        faults=("EGR-002/default-route",),
        depth=Depth.SETTING,
        cause="node {node} has no {ip} default route: nothing on it, and none of its pods, reaches "
        "the outside over {ip}",
        fix=("on {node}: ip -{version} route add default via GATEWAY dev FABRIC",),
        signs=(
            Finding(
                ("CFG-010",),
                r"node (?P<node>\S+) has no FAMILY default route",
                "node worker has no IPv6 default route: its pods cannot reach anything beyond the "
                "cluster over IPv6",
            ),
        ),
        explains=ids(
            "CFG-010 EGR-001 EGR-002 EGR-003 EGR-004 EGR-005 EGR-007 EGR-008 EGR-009 EGR-011 "
            "PRX-005 SVC-010 SVC-011"
        ),
    ),
    Rule(
        name="node-has-no-internal-ip",
        faults=("F10",),
        depth=Depth.SETTING,
        cause="Node {node} registers no {ip} InternalIP: hostNetwork pods on {node} are "
        "single-stack",
        fix=(
            "kubelet on {node}: --node-ip=V4,V6 (kubeadm: nodeRegistration.kubeletExtraArgs, "
            "/var/lib/kubelet/kubeadm-flags.env), then systemctl restart kubelet",
        ),
        signs=(
            Finding(
                ("CFG-005",),
                r"node (?P<node>\S+) registers 0 FAMILY InternalIPs",
                "node worker registers 0 IPv6 InternalIPs (all: 10.243.0.3), must be exactly 1",
            ),
        ),
        explains=ids(
            "CFG-005 CFG-009 CFG-012 PODIP-003 PODIP-009 SVC-010 SVC-011 CONN-011 CONN-012 "
            "RTE-001 RTE-002 PRX-002 EGR-002 EGR-004 EGR-007 EGR-011"
        ),
    ),
    Rule(
        name="calico-has-no-node-address",
        faults=("F04",),
        depth=Depth.SETTING,
        cause="Calico has no {ip} address for node {node} ({variable} is not autodetect): {bird} "
        "has no session to {node} and its {ip} blocks are not routed",
        fix=(
            "kubectl -n kube-system set env daemonset/calico-node -c calico-node "
            "{variable}=autodetect",
            "the pod of calico-node on {node} starts anew by that; until its address is found: "
            "kubectl get node {node} -o yaml | grep projectcalico.org/{ip}Address",
        ),
        signs=(
            Finding(
                ("CFG-012", "RTE-001"),
                r"Calico has no FAMILY address for node (?P<node>[^\s:]+)",
                "Calico has no IPv6 address for node worker (annotation "
                "projectcalico.org/IPv6Address is absent): BIRD has no IPv6 session to it",
            ),
            Fact("", bgp_words),
        ),
        explains=(
            *ids("CFG-012 RTE-001 RTE-002"),
            *ROUTED,
        ),
        local=True,
    ),
    Rule(
        name="bgp-sessions-down",
        faults=("F13",),
        depth=Depth.STATE,
        cause="{bird} sessions of {node} are not Established (TCP/179 over {ip} blocked){although}",
        fix=(
            "look for what drops TCP/179 over {ip} at {node}: nft list ruleset, ip6tables-save, "
            "firewalls between the nodes",
            "kubectl -n kube-system exec calico-node-POD -- birdcl -s /var/run/calico/{ctl} show "
            "protocols all   # on {node}",
        ),
        signs=(
            Finding(
                ("RTE-001",),
                r"session to (?P<peer>\S+) \(\S+\) is not Established",
                "BIRD6 on worker: session to control-plane (fd00:10:243::2) is not Established but "
                "start Connect since 08:00:00",
            ),
            Holds(("CFG-012", "CFG-009")),
            Fact("every broken session has an end at the node", node_in_all_sessions),
            Fact("", bgp_words),
        ),
        explains=(
            *ids("RTE-001 RTE-002"),
            *ROUTED,
        ),
        local=True,
    ),
    Rule(
        name="bgp-stays-away-in-a-roll",
        faults=(),
        depth=Depth.STATE,
        cause="BGP over {ip} stayed away at {node} for longer than a roll of Calico takes: routes "
        "to its pods lived on graceful restart alone, or were gone",
        fix=(
            "look for what dropped TCP/179 over {ip} at {node} then: nft list ruleset, "
            "ip6tables-save, firewalls between the nodes",
            "look at what BIRD of {node} logged while Calico rolled",
        ),
        signs=(
            Finding(
                ("RES-001",),
                r"BGP session \S+ of (?P<node>\S+) was not Established for",
                "BGP session Mesh_fd00_10_243__2 of worker was not Established for 30.5 s, allowed "
                "are 20 s: is TCP port 179 open between the nodes for IPv6?",
            ),
        ),
        explains=ids("RES-001 RES-002"),
        local=True,
    ),
    Rule(
        name="block-routes-missing",
        faults=(),
        depth=Depth.STATE,
        cause="{node} has no {ip} route to block {block} of {owner}, although its BGP sessions "
        "are Established: pods on {node} do not reach pods there over {ip}",
        fix=(
            "ip -{version} route show proto bird on {node}, and `birdcl show route` there: who "
            "removed it",
            "kubectl -n kube-system delete pod -l k8s-app=calico-node "
            "--field-selector spec.nodeName={node}",
        ),
        signs=(
            Finding(
                ("RTE-002",),
                r"(?P<node>\S+) has no route to the FAMILY block (?P<block>\S+) of "
                r"(?P<owner>[^\s:]+)",
                "worker has no route to the IPv6 block fd00:10:244::/122 of control-plane: pods on "
                "worker do not reach pods there over IPv6",
            ),
            Holds(("RTE-001", "CFG-012")),
        ),
        explains=(
            *ids("RTE-002"),
            *ROUTED,
        ),
        local=True,
    ),
    Rule(
        name="pool-encapsulates",
        faults=("F14",),
        depth=Depth.SETTING,
        cause="{ip} pod traffic is encapsulated ({kind}), profile requires native {ip}: IPPool "
        "{pool} has ipipMode={ipip} and vxlanMode={vxlan}",
        fix=(
            "kubectl patch ippool {pool} --type merge "
            '-p \'{{"spec":{{"ipipMode":"Never","vxlanMode":"Never"}}}}\'',
        ),
        signs=(
            Finding(
                ("CFG-016",),
                r"FAMILY IPPool (?P<pool>\S+) has ipipMode (?P<ipip>\w+) and vxlanMode "
                r"(?P<vxlan>\w+), the profile requires native",
                "IPv6 IPPool default-ipv6-ippool has ipipMode Never and vxlanMode Always, the "
                "profile requires native IPv6: set both to Never",
            ),
            Fact("", encapsulation_words),
            Extra(
                Finding(
                    ("CONN-006",),
                    r"(?P<crossing>.+)",
                    "pod on a -> pod on b: outermost header is fd00::1 -> fd00::2",
                )
            ),
        ),
        across=True,  # pods have one MTU for both families
        explains=ids(
            "CFG-016 CONN-006 RTE-002 CONN-008 CONN-009 RTE-005 EGR-011 PKT-011 PKT-013 "
            "PKT-012 CONN-002 CONN-003 CONN-005 PKT-015"
        ),
    ),
    Rule(
        name="nodes-do-not-reach-each-other",
        faults=("CFG-009/drop",),
        depth=Depth.TRAFFIC,
        cause="nodes do not reach each other over {ip}: {pair}; what pods send between them is not "
        "judged",
        fix=(
            "the network between the nodes must carry {ip}: ping -{version} from one to the other, "
            "then look for packet filters on the nodes (nft list ruleset) and between them",
        ),
        signs=(
            Fact("CFG-009 fails for a pair of nodes", broken_pairs),
            Holds(("CFG-005",)),
        ),
        explains=(
            *ids("CFG-009 CFG-012 RTE-001 RTE-002"),
            *ROUTED,
        ),
    ),
)
