"""Runs whose traffic or component states show the fault."""

from __future__ import annotations

from ipaddress import ip_address

from helpers import (
    bird,
)
from helpers.egress import Departure, source_findings
from helpers.names import NODATA, Answer, Question, holding, name_findings
from helpers.newborn import Allocated, Release, release_findings
from helpers.proxy_tables import Door
from helpers.spoofing import Flight, spoof_findings
from tests.diagnosis.conftest import NODES, cell, cluster, pod_cells, result
from tests.diagnosis.stories import V6, Story, failing, passing, pool


def f12() -> Story:
    return Story(
        "F12",
        [
            *passing("CONN-001", "CFG-009", "CFG-010", "CFG-012", "RTE-001", "RTE-002"),
            result("CONN-002", "ipv6", "fail", cells=pod_cells([("n1", "n2")])),
            result("CONN-003", "ipv6", "fail", cells=pod_cells([("n1", "n2")], "icmp")),
        ],
        "pod-path-loses",
        "IPv6 packets from pods on n1 to pods on n2 are lost (one-way UDP: 0/20 datagrams arrived; "
        "the opposite direction works); node-to-node IPv6 is fine, so the loss is on the pod path "
        "at n2",
    )


def f13() -> Story:
    def session(address: str, state: str, info: str) -> bird.Session:
        return bird.Session("Mesh", ip_address(address), state, info, "08:00:00")

    addresses = {n: ip_address(f"fd00:10:243::{i}") for i, n in enumerate(NODES, 2)}
    sessions = {
        name: [
            session(str(addresses[peer]), *(("start", "Connect") if "n2" in (name, peer) else up))
            for peer in NODES
            if peer != name
        ]
        for up in [("up", "Established")]
        for name in NODES
    }
    findings = bird.session_findings(V6, sessions, addresses, mesh=True)  # type: ignore[arg-type]
    return Story(
        "F13",
        [
            *passing("CFG-012", "CFG-009"),
            failing("RTE-001", findings),
            result("RTE-002", "ipv6", "fail", "n1 has no route to the IPv6 block x of n2: pods"),
        ],
        "bgp-sessions-down",
        "BIRD6 sessions of n2 are not Established (TCP/179 over IPv6 blocked) although calico-node "
        "is Ready: the readiness probe does not check IPv6 BGP",
    )


def f15() -> Story:
    departure = Departure(
        "p",
        "n1",
        ip_address("10.244.1.3"),
        (ip_address("10.243.0.2"),),
        frozenset([ip_address("10.244.1.3")]),
    )
    v4 = pool(name="default-ipv4-ippool", cidr="10.244.0.0/16", natOutgoing=False)
    return Story(
        "F15",
        [failing("EGR-003", source_findings([departure], [v4], translated=True), "ipv4")],
        "nat-outgoing-differs",
        "External host saw 10.244.1.3 instead of an address of node n1 (10.243.0.2): natOutgoing "
        "is false on the IPv4 pool default-ipv4-ippool, the profile declares true",
    )


def f16() -> Story:
    departure = Departure(
        "p",
        "n1",
        ip_address("fd00:10:244::3"),
        (ip_address("fd00:10:243::2"),),
        frozenset([ip_address("fd00:10:243::2")]),
    )
    findings = source_findings([departure], [pool(natOutgoing=True)], translated=False)
    return Story(
        "F16",
        [failing("EGR-004", findings), result("CONN-012", "ipv6", "fail", "with source x")],
        "nat-outgoing-differs",
        "External host saw fd00:10:243::2 instead of the pod's own fd00:10:244::3: natOutgoing is "
        "true on the IPv6 pool default-ipv6-ippool, the profile declares false",
    )


def f17() -> Story:
    return Story(
        "F17",
        [
            *passing("PODIP-004", "CFG-015"),
            result(
                "CONN-005",
                "ipv6",
                "fail",
                "tcp from the pod on n1 arrived at the pod on n2 with source fd00:10:243::2, "
                "expected fd00:10:244::13: look for masquerade rules on the sender's node",
            ),
            result("CONN-006", "ipv6", "fail", "outermost header"),
        ],
        "pods-are-masqueraded",
        "Pod-to-pod IPv6 from the pod on n1 arrives with the address fd00:10:243::2 of node n1: "
        "something masquerades pod IPv6",
    )


def spoofed() -> list[str]:
    flight = Flight(
        kind="another pod of the node",
        source=ip_address("fd00:10:244::13"),
        sender="pod on n1",
        protocol="udp to the pod on n2",
        left=True,
        refused=None,
        seen=("eth0 of the pod on n2",),
        places=("eth0 of the pod on n2",),
    )
    return spoof_findings([flight])


def f19() -> Story:
    return Story(
        "F19",
        [*passing("CFG-013"), failing("PKT-018", spoofed())],
        "spoofing-allowed",
        "The pod on n1 sent IPv6 with source fd00:10:244::13 (another pod of the node) that is not "
        "its own and it was delivered: anti-spoofing is off for it (workloadSourceSpoofing is Any)",
        cluster(felix={"default": {"workloadSourceSpoofing": "Any"}}),
    )


def f19_without_the_setting() -> Story:
    return Story(
        "PKT-018/raw-accept",
        [*passing("CFG-013"), failing("PKT-018", spoofed())],
        "spoofed-sources-pass",
        "The pod on n1 sent IPv6 with source fd00:10:244::13 (another pod of the node) that is not "
        "its own and it was delivered, although Felix is to check sources: its rule is not there "
        "or is bypassed",
    )


def f21() -> Story:
    big = [
        cell(f"pod on {a}", f"pod on {b}", f"udp {size} bytes", b != "n2")
        for a, b in (("n1", "n2"), ("n2", "n3"), ("n3", "n1"))
        for size in (2000, 8000)
    ]
    bulk = [cell("pod on n1", "pod on n2", "tcp 64 MiB", True)]
    return Story(
        "F21",
        [*passing("CONN-002"), result("CONN-009", "ipv6", "fail", cells=[*big, *bulk])],
        "fragments-dropped",
        "IPv6 fragments are dropped on node n2 before reassembly (udp 2000 bytes, udp 8000 bytes "
        "lost, datagrams that need no fragments delivered)",
    )


def f23() -> Story:
    asked = Question("pod on n1", "svc.ns.svc.cluster.local.", "AAAA")
    wanted = {asked: holding(["fd00:10:96::5"])}
    findings = name_findings(wanted, {asked: Answer("NXDOMAIN")})
    assert Answer("NXDOMAIN") != NODATA
    return Story(
        "F23",
        [
            failing("SVC-017", findings),
            failing("EGR-009", findings),
            *passing("SVC-017", family="ipv4"),
        ],
        "dns-suppresses-family",
        "Cluster DNS answers NXDOMAIN for AAAA while A resolves: IPv6 names are suppressed in "
        "CoreDNS (`template ANY AAAA . {`)",
        cluster(corefile=".:53 {\n  template ANY AAAA . {\n    rcode NXDOMAIN\n  }\n}"),
    )


def f24() -> Story:
    doors = [Door(f"fd00:10:96::{n}", "tcp", 80) for n in (5, 6)]
    findings = [
        f"IPv6 nftables rules of n2: no rule for {door} of Service ns/a: kube-proxy on n2 does not "
        "follow the API; look at its log and restart it"
        for door in doors
    ]
    return Story(
        "F24",
        [
            failing("PRX-007", findings),
            failing("PRX-007", [line.replace("IPv6", "IPv4") for line in findings], "ipv4"),
            result("SVC-007", "ipv6", "fail", cells=[
                cell("pod on n2", "clusterIP", "tcp", False),
                cell("pod on n1", "clusterIP", "tcp", True),
            ]),
        ],
        "proxy-not-syncing",
        "kube-proxy on n2 is not syncing: 2 addresses of Services are missing from, or stale in, "
        "its rules (IPv4 and IPv6)",
    )  # fmt: skip


def f24_by_traffic() -> Story:
    cells = [
        cell("pod on n2", "clusterIP", "tcp", False),
        cell("node n2", "clusterIP", "udp", False),
        cell("pod on n1", "clusterIP", "tcp", True),
    ]
    return Story(
        "F24",
        [*passing("CONN-002", "CONN-011"), result("SVC-007", "ipv6", "fail", cells=cells)],
        "services-not-served-on-node",
        "kube-proxy on n2 is not syncing: clients there do not reach new IPv6 Services, which "
        "clients of other nodes reach",
    )


def f25() -> Story:
    return Story(
        "F25",
        [
            *passing("CFG-013", "PKT-018"),
            *passing("NPOL-001", family="ipv4"),
            result("NPOL-001", "ipv6", "fail", "default-deny let tcp/8080 through"),
            result("NPOL-005", "ipv6", "fail", "default-deny egress let dns through"),
        ],
        "global-policy-allows-family",
        "GlobalNetworkPolicy wide allows all IPv6 ahead of namespace policy: IPv6 bypasses "
        "default-deny while IPv4 is enforced (Felix IPv6 is on)",
        cluster(
            globalPolicies=[
                {"name": "default.wide", "order": 0, "selector": "all()", "allowsAll": ["ipv6"]}
            ]
        ),
    )


def r1() -> Story:
    releases = [
        Release(Allocated(f"ns/p{n}", "n2", ip_address(f"fd00:10:244::{n}")), None)
        for n in range(1, 13)
    ]
    return Story(
        "R1",
        [failing("PODIP-011", release_findings(releases))],
        "cni-del-does-not-release",
        "12 IPv6 allocations of deleted pods remain on n2: CNI DEL does not release",
    )


def r2() -> Story:
    sentence = (
        "pod on n2 does not resolve its IPv6 gateway fe80::ecee:eeff:feee:eeee after its "
        "neighbours were flushed (it has no answer, cali1 is ee:ee:ee:ee:ee:ee)"
    )
    return Story(
        "R2",
        [
            result("CONN-014", "ipv6", "fail", sentence),
            result("CONN-002", "ipv6", "fail", cells=pod_cells([("n2", "n1"), ("n2", "n3")])),
        ],
        "gateway-not-resolved",
        "Pods on n2 cannot resolve their IPv6 gateway (neighbour solicitations unanswered)",
    )


def f18() -> Story:
    sentence = (
        "a packet of 1500 octets pod on n2 -> outside: the next link carries 1400 octets; the node "
        "must answer Packet Too Big with MTU 1400, but came back: nothing (last seen on eth0 of "
        "the pod on n2): path MTU discovery is blind here"
    )
    return Story(
        "F18",
        [
            *passing("EGR-002", "CONN-002", "CONN-003"),
            failing("EGR-008", [sentence]),
            failing("PKT-015", [sentence]),
        ],
        "packet-too-big-dropped",
        "ICMPv6 Packet Too Big is dropped on node n2: PMTU discovery black hole (bulk TCP stalls)",
    )


def f20() -> Story:
    return Story(
        "F20",
        [failing("PKT-016", ["node n2: route to default via the attacker on cali1"])],
        "router-advertisement-accepted",
        "Router Advertisement from a pod installed a route or address on node n2 via its cali "
        "interface (accept_ra=2)",
    )


def f22() -> Story:
    sentence = "a hop-by-hop header (udp), same node, pod on n2 -> second pod on n2: dropped"
    return Story(
        "F22",
        [
            *passing("CONN-001", "CONN-002", "CONN-003"),
            failing("PKT-001", [sentence, sentence.replace("second pod on n2", "pod on n3")]),
            failing("PKT-002", [sentence]),
            failing("PKT-010", [sentence]),
        ],
        "extension-headers-dropped",
        "IPv6 packets with extension headers (hop-by-hop, destination options) are dropped on node "
        "n2; plain IPv6 passes",
    )
