"""Causes that concern one pod, route, Service or kind of packet, and leave the rest alone."""

from __future__ import annotations

from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values, unique
from reports.diagnosis.rule import Depth, Rule, ids
from reports.diagnosis.signs import (
    Fact,
    Finding,
    Holds,
    Missing,
    Question,
    Seen,
    key_of,
    not_broken,
)


def broken(requirement: str) -> Question:
    """Where paths of a requirement are broken: the fewer nodes of their sources and targets."""

    def question(case: Case, family: Family, bound: Values) -> Seen | Missing:
        bad = [cell for cell in case.cells(requirement, family) if not cell.good]
        if not bad:
            return not_broken(case, requirement, family)
        sources = unique(node for cell in bad if (node := case.node_of(cell.source)))
        targets = unique(node for cell in bad if (node := case.node_of(cell.target)))
        nodes = sources if sources and len(sources) <= len(targets or sources) else targets
        key = key_of(case, requirement, family)
        told = f"{requirement} [{family}]: {case.said(requirement, family)}"
        return Seen((told,), (key,), {"node": nodes})

    return question


RULES: Final = (
    Rule(
        name="address-shared",
        faults=("PODIP-005/twin",),
        depth=Depth.STATE,
        cause="{address} is the address of several live pods: {pods}",
        fix=(
            "delete all of them but one, and look for addresses pinned with "
            "cni.projectcalico.org/ipAddrsNoIpam",
        ),
        signs=(
            Finding(
                ("PODIP-005",),
                r"(?P<address>\S+) is the address of \d+ live pods: (?P<pods>.*?); delete",
                "fd00::5 is the address of 2 live pods: a/p on n1, a/q on n2; delete all but one "
                "of them, and look for addresses pinned",
            ),
        ),
        explains=ids("PODIP-005 PODIP-004 PODIP-010 PODIP-011 RTE-003"),
        across=True,
    ),
    Rule(
        name="pod-has-other-addresses",
        faults=("PODIP-006/stray-address",),
        depth=Depth.STATE,
        cause="{where} has {ip} addresses {held}, but status.podIPs says {known}",
        fix=(
            "recreate the pod; something in it, or a second CNI plugin on its node, changes its "
            "addresses",
        ),
        signs=(
            Finding(
                ("PODIP-006",),
                r"(?P<where>\S.*?): eth0 has global FAMILY addresses (?P<held>.*?), but "
                r"status.podIPs says (?P<known>.*?): something",
                "pod on n1: eth0 has global IPv6 addresses fd00::5/128, fd00::6/128, but "
                "status.podIPs says fd00::5: something in the pod or a second CNI plugin",
            ),
        ),
        explains=ids("PODIP-006 CONN-005"),
    ),
    Rule(
        name="gateway-address-missing",
        faults=("PODIP-007/gateway",),
        depth=Depth.STATE,
        cause="{where}: its {ip} gateway {gateway} is not an address of {device} on the node: "
        "nobody answers for it when the neighbour entry expires",
        fix=("on the node: ip -{version} addr add {gateway}/64 dev {device}, or recreate the pod",),
        signs=(
            Finding(
                ("PODIP-007",),
                r"(?P<where>\S.*?): its FAMILY gateway (?P<gateway>\S+) is not an address of "
                r"(?P<device>\S+) on the node",
                "pod on n1: its IPv6 gateway fe80::ecee:eeff:feee:eeee is not an address of cali1 "
                "on the node (there: fe80::1)",
            ),
        ),
        explains=ids("PODIP-007 CONN-014 CONN-001 CONN-002 CONN-003 CONN-012 EGR-002 NPOL-006"),
    ),
    Rule(
        name="pod-mtu-differs",
        faults=("CONN-008/mtu",),
        depth=Depth.SETTING,
        cause="{where}: eth0 has MTU {mtu}, expected {expected} ({because})",
        fix=(
            'ConfigMap kube-system/calico-config: veth_mtu: "0" (found by Calico itself); '
            "FelixConfiguration: no mtuIfacePattern or ...MTU that says otherwise",
            "recreate the pods: their interfaces keep the MTU that they were made with",
        ),
        signs=(
            Finding(
                ("CONN-008",),
                r"(?P<where>\S.*?): eth0 has MTU (?P<mtu>\d+), expected (?P<expected>\d+) "
                r"\((?P<because>.*?)\):",
                "pod on n1: eth0 has MTU 1400, expected 1500 (the node's 1500): every pod packet "
                "is smaller than it could be",
            ),
        ),
        explains=ids("CONN-008 CONN-009 PKT-015 EGR-008"),
    ),
    Rule(
        name="gate-is-gone",
        faults=("CFG-002/gate",),
        depth=Depth.SETTING,
        cause="{place} names the feature gate {gate}, which this release does not know: what reads "
        "it runs on and does not start the next time",
        fix=("remove {gate} from featureGates there, and from flags --feature-gates",),
        signs=(
            Finding(
                ("CFG-002",),
                r"(?P<place>.+?) names the feature gate (?P<gate>\S+) .*no longer knows",
                "ConfigMap kube-system/kube-proxy names the feature gate IPv6DualStack (true), "
                "which Kubernetes 1.36 no longer knows: it does not start the next time",
            ),
        ),
        explains=ids("CFG-002"),
    ),
    Rule(
        name="pod-is-told-other-addresses",
        faults=("PODIP-008/hosts",),
        depth=Depth.STATE,
        cause="{pod} is told {told} as its addresses by {place}, but status.podIPs are {api}",
        fix=(
            "recreate the pod; if it is told the same again, look for a volume over /etc/hosts, "
            "then at the kubelet of its node",
        ),
        signs=(
            Finding(
                ("PODIP-008",),
                r"(?P<pod>pod on \S+): (?P<place>.+?) is (?P<told>.+?), but the API's podIPs are "
                r"(?P<api>.+?); if",
                "pod on n1: /etc/hosts for the pod's own name is 10.244.1.3, but the API's podIPs "
                "are 10.244.1.3, fd00::3; if /etc/hosts differs, look for a volume mounted over it",
            ),
        ),
        explains=ids("PODIP-008"),
    ),
    Rule(
        name="address-not-allocated",
        faults=("PODIP-010/lost-allocation",),
        depth=Depth.STATE,
        cause="pod {pod} on {node} has {address}, which Calico's IPAM counts {times} times: "
        "another pod can be given it",
        fix=("calicoctl ipam check", "recreate the pod"),
        signs=(
            Finding(
                ("PODIP-010",),
                r"pod (?P<pod>\S+) on (?P<node>\S+) has (?P<address>\S+), with (?P<times>\d+) "
                r"allocations in Calico's IPAM",
                "pod ns/p on n1 has fd00::3, with 0 allocations in Calico's IPAM instead of 1: "
                "another pod can be given the same address",
            ),
        ),
        explains=ids("PODIP-010 PODIP-005"),
    ),
    Rule(
        name="gateway-not-answered-for",
        faults=("CONN-014/proxy-ndp",),
        depth=Depth.STATE,
        cause="proxy_ndp is {value} on {device}, the node's end of the pod on {node}: the node "
        "does not answer for others there",
        fix=("sysctl net.ipv6.conf.{device}.proxy_ndp=1   # on the node",),
        signs=(
            Finding(
                ("CONN-014",),
                r"pod on (?P<node>\S+): proxy_ndp is (?P<value>.+?) on (?P<device>\S+), expected 1",
                "pod on n1: proxy_ndp is 0 on cali1, expected 1: set it",
            ),
        ),
        explains=ids("CONN-014"),
        families=(Family.IPV6,),  # its gateway answers all the same: an address of that interface
    ),
    Rule(
        name="proxy-arp-off",
        faults=("CONN-014/proxy-arp",),
        depth=Depth.SETTING,  # before what it leads to: ARP requests that nobody answers
        cause="proxy_arp is {value} on {device}, the node's end of the pod on {node}: nobody "
        "answers for the pod's IPv4 gateway, which is on no interface",
        fix=("sysctl net.ipv4.conf.{device}.proxy_arp=1   # on the node",),
        signs=(
            Finding(
                ("CONN-014",),
                r"pod on (?P<node>\S+): proxy_arp is (?P<value>.+?) on (?P<device>\S+), expected 1",
                "pod on n1: proxy_arp is 0 on cali1, expected 1: set it",
            ),
        ),
        explains=ids(
            "CONN-014 CONN-001 CONN-002 CONN-003 CONN-011 CONN-012 EGR-001 EGR-009 SVC-005 SVC-007 "
            "SVC-009 SVC-017"
        ),
        local=True,
        families=(Family.IPV4,),
    ),
    Rule(
        name="route-to-no-pod",
        faults=("RTE-003/stale",),
        depth=Depth.STATE,
        cause="{node} has a host route to no pod: `{route}`",
        fix=(
            "on {node}: ip -{version} route del {route_first}",
            "look for what does not clean up: CNI DEL (PODIP-011), Felix",
        ),
        signs=(
            Finding(
                ("RTE-003",),
                r"(?P<node>\S+) has a stale host route `(?P<route>[^`]+)`",
                "n1 has a stale host route `fd00::5/128 dev cali1`, and no pod there has that "
                "address: what is sent to it is lost",
            ),
        ),
        explains=ids("RTE-003"),
    ),
    Rule(
        name="slice-of-another-family",
        faults=("SVC-006/stray-slice-ipv6",),
        depth=Depth.STATE,
        cause="Service {service} is {others} only, but EndpointSlice {slice} of addressType {ip} "
        "is labelled for it",
        fix=("kubectl -n NAMESPACE delete endpointslice NAME   # {slice}",),
        signs=(
            Finding(
                ("SVC-006",),
                r"Service (?P<service>\S+) is (?P<others>\S+) only, but EndpointSlice "
                r"(?P<slice>\S+) of addressType FAMILY",
                "Service kube-system/kube-dns is IPv4 only, but EndpointSlice kube-system/stray of "
                "addressType IPv6 is labelled for it: delete the slice",
            ),
        ),
        explains=ids("SVC-006"),
    ),
    Rule(
        name="dead-endpoint",
        faults=("SVC-006/stray-slice",),
        depth=Depth.STATE,
        cause="Service {service} has {address} as a ready {ip} endpoint in EndpointSlice {slice}, "
        "but no ready pod has it: its clients are sent to a dead address",
        fix=(
            "kubectl -n NAMESPACE delete endpointslice {slice}   # when it was made by hand",
            "else: the log of kube-controller-manager, endpointslice controller",
        ),
        signs=(
            Finding(
                ("SVC-006",),
                r"Service (?P<service>\S+): (?P<address>\S+) is ready in EndpointSlice "
                r"(?P<slice>.+?), but no ready pod has it: clients over FAMILY",
                "Service kube-system/kube-dns: fd00::5 is ready in EndpointSlice stray, but no "
                "ready pod has it: clients over IPv6 are sent to a dead address",
            ),
        ),
        explains=ids("SVC-006 SVC-005 SVC-007 SVC-009 SVC-014 SVC-017 EGR-009"),
    ),
    Rule(
        name="hop-limit-rewritten",
        faults=("PKT-011/hop-limit",),
        depth=Depth.TRAFFIC,
        cause="{ip} hop limits are not what the nodes passed leave of them: {path}",
        fix=("on the nodes: nft list ruleset, mangle tables: a rule that sets ttl or hoplimit",),
        signs=(
            Finding(
                ("PKT-011",),
                r"(?P<path>from the .*?: sent with .*?, arrived with \S+)",
                "IPv6 from the pod on n1 to the pod on n2: sent with hop limit 61, arrived with "
                "64: fell by -3, expected 2",
            ),
            Holds(("CONN-002",)),
        ),
        explains=ids("PKT-011 PKT-012"),
    ),
    Rule(
        name="icmp-errors-dropped",
        faults=("EGR-007/unreachable",),
        depth=Depth.TRAFFIC,
        cause="{icmp} errors about the flows of pods do not come to them: applications wait for a "
        "timeout instead",
        fix=("on the nodes: nft list ruleset: rules about {icmp} type destination-unreachable",),
        signs=(
            Finding(
                ("EGR-007",),
                r"no ICMP error about its UDP packet",
                "pod p on n1: no ICMP error about its UDP packet a -> b came to its interface",
            ),
            Holds(("EGR-001", "EGR-002")),
        ),
        explains=ids("EGR-007 PKT-012 SVC-015"),
    ),
    Rule(
        name="echo-dropped",
        faults=("CONN-003/echo",),
        depth=Depth.TRAFFIC,
        cause="{icmp} echo between pods is dropped, TCP and UDP pass",
        fix=("on {node}: nft list ruleset: rules about {icmp} type echo-request or echo-reply",),
        signs=(
            Fact("echoes between pods are lost (CONN-003)", broken("CONN-003")),
            Holds(("CONN-001", "CONN-002")),
        ),
        explains=ids("CONN-003 CONN-008 CONN-014 EGR-001 EGR-002 CONN-011 CONN-012 CFG-009"),
    ),
    Rule(
        name="node-does-not-reach-pods",
        faults=("CONN-011/output",),
        depth=Depth.TRAFFIC,
        cause="node {node} does not reach pods over {ip}, which pods and other nodes do",
        fix=("on {node}: nft list ruleset: rules at output that drop what is for the pod CIDR",),
        signs=(
            Fact("a node does not reach pods (CONN-011)", broken("CONN-011")),
            Holds(("CONN-001", "CONN-002", "CFG-010", "RTE-002")),
        ),
        explains=ids(
            "CONN-011 CONN-012 CONN-014 PODIP-007 NPOL-007 SVC-007 SVC-009 SVC-010 SVC-014"
        ),
    ),
    Rule(
        name="pods-do-not-reach-nodes",
        faults=("CONN-012/input",),
        depth=Depth.TRAFFIC,
        cause="pods do not reach node {node} over {ip}, which other nodes do",
        fix=(
            "on {node}: nft list ruleset: rules at input that drop what comes from cali interfaces",
            "FelixConfiguration: defaultEndpointToHostAction: Accept, and no "
            "FELIX_DEFAULTENDPOINTTOHOSTACTION that says otherwise",
        ),
        signs=(
            Fact("pods do not reach a node (CONN-012)", broken("CONN-012")),
            Holds(("CONN-001", "CONN-002", "CONN-011", "CFG-010", "CFG-009")),
        ),
        explains=ids("CONN-012 PODIP-007 CONN-014 SVC-010 NPOL-006 NPOL-007 PRX-005"),
    ),
    Rule(
        name="outside-does-not-reach-pods",
        faults=("EGR-011/new",),
        depth=Depth.TRAFFIC,
        cause="the outside cannot open {ip} connections to pods on {node}, although pods reach it",
        fix=(
            "on {node}: nft list ruleset: rules about new connections from the nodes' network to "
            "cali interfaces",
            "the outside's routes: one to each block of the pod CIDR, via the block's node",
        ),
        signs=(
            Fact("the outside does not reach pods (EGR-011)", broken("EGR-011")),
            Holds(("EGR-001", "EGR-002", "CONN-002", "CFG-010", "CFG-009", "RTE-002")),
        ),
        explains=ids("EGR-011"),
    ),
)
