"""What nodes change in packets, and what they must not: hop limits, markings, sums, options."""

from __future__ import annotations

from helpers.agents.pool import AgentPool
from helpers.evidence import Evidence
from helpers.findings import demand_none
from helpers.model import Family
from helpers.packet_matrix import expiry, judge, markings, repeat, tcp_options, ways
from helpers.packet_matrix.expected import shapes_of
from helpers.packet_matrix.flight import fly_until_told, shots
from helpers.packet_matrix.services import called_by
from helpers.packet_matrix.shapes import variants
from helpers.paths import Path
from helpers.pod_netns import POD_INTERFACE, link
from helpers.workloads import Workloads


def test_pkt_012_nodes_tell_that_a_hop_limit_ended(
    family: Family, between_pods: list[ways.Way]
) -> None:
    """traceroute shows each node by an address of its own.

    Given: pods within and between nodes, packets with hop limit (TTL) 1, 2 and 3
    Then: each node on the way answers Time Exceeded from a routable address; with one hop more
        the packet arrives
    Source: RFC 4443 3.3, RFC 792
    """
    seen = expiry.observe(between_pods)
    found = expiry.findings(seen, family)
    demand_none(found)
    expiry.require_arrived(seen, family)


def test_pkt_013_markings_arrive_unchanged(family: Family, between_pods: list[ways.Way]) -> None:
    """DSCP, ECN and the flow label of IPv6 belong to the sender.

    Given: pods within and between nodes, a packet with each DSCP, each ECN codepoint, and some
        flow labels
    Then: each arrives as it was sent
    Source: RFC 2474 3, RFC 3168 5, RFC 6437 3
    """
    seen = markings.observe(between_pods, family)
    found = markings.findings(seen)
    demand_none(found)
    markings.require_arrived(seen, family)


def test_pkt_014_wrong_checksums_are_discarded(
    family: Family, between_pods: list[ways.Way], evidence: Evidence
) -> None:
    """A UDP datagram with a wrong checksum reaches nobody; one without is IPv4's alone.

    Given: pods within and between nodes, a datagram with the right checksum beside each
    Then: the receiver never answers one with a wrong checksum; one without a checksum is answered
        over IPv4 and never over IPv6
    Source: RFC 768, RFC 8200 8.1
    """
    wanted = shots(between_pods, variants(family, shapes_of("PKT-014", family)))
    seen = fly_until_told(wanted, judge.lacks_error)
    repeat.attach(evidence, judge.failing(seen))
    findings = judge.findings(seen)
    demand_none(findings)
    judge.require_plain(seen)


def test_pkt_020_tcp_options_pass_unchanged(
    family: Family,
    between_pods: list[ways.Way],
    agents: AgentPool,
    workloads: Workloads,
) -> None:
    """Nobody touches the options of a SYN, nor clamps its MSS, directly and through a ClusterIP.

    Given: pods within and between nodes and a Service with one backend; SYNs with every usual
        option and an unknown one, and SYNs of the pods' own kernels
    Then: flags and options arrive as they were sent; the kernel's MSS fits the pod's MTU
    Source: RFC 9293 3.2, 3.7.1; RFC 7323, RFC 2018, RFC 3168 6.1
    """
    taken = [*between_pods, *_through_cluster_ip(agents, workloads, family)]
    mtus = {way: link(way.source, POD_INTERFACE).mtu for way in taken}
    found = tcp_options.findings(tcp_options.observe(taken, mtus))
    own = [tcp_options.observe_own(way, mtus[way]) for way in taken]
    found += tcp_options.own_findings(own, family)
    demand_none(found)


def _through_cluster_ip(agents: AgentPool, workloads: Workloads, family: Family) -> list[ways.Way]:
    """From a pod on each node to a pod on the last one, called by the address of a Service."""
    last = list(agents.pods)[-1]
    (backend,) = workloads.pods([last])
    service = workloads.service()
    target = workloads.agent(backend)
    names = [(f"pod on {node}", f"backend on {last}") for node in agents.pods]
    direct = ways.between_pods(
        agents,
        [
            Path(agents.pods[node], target, name, (node, last))
            for node, name in zip(agents.pods, names, strict=True)
        ],
        family,
    )
    address = service.cluster_ips.require(family)
    return called_by(direct, ways.CLUSTER_IP, address, 80, by="SVC-007")
