"""What pods themselves see of their addresses: PODIP-006, 007, 008."""

from __future__ import annotations

from helpers import gates
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.model import Family, Protocol
from helpers.parallel import on_each
from helpers.pod_netns import address_findings, gateway_findings, host_end, pod_end
from helpers.podview import identity_findings, inside
from helpers.probes import Probe, run_all


def test_podip_006_the_interface_has_exactly_the_pods_addresses(
    agents: AgentPool, family: Family
) -> None:
    """What the API shows is what the pod has.

    Given: a pod on each node
    Then: eth0's global addresses are its podIPs, each a host route and usable; for IPv6 there is
        one link-local address beside
    Source: Calico cni-plugin dataplane_linux.go
    """
    for agent in agents.pods.values():
        gates.pod_address(agent, family)
    ends = on_each(agents.pods, lambda node: pod_end(agents.pods[node]))

    found = [
        finding
        for node, end in ends.items()
        for finding in address_findings(f"pod on {node}", end, agents.pods[node].addresses, family)
    ]

    demand_none(found)


def test_podip_007_the_default_route_leads_to_the_node(agents: AgentPool, family: Family) -> None:
    """A pod's gateway is its node's end of the veth.

    Given: a pod on each node that has just sent a packet to its node
    Then: it has one default route, via 169.254.1.1 (IPv4) or the link-local address of the
        node's end (IPv6), and the gateway's MAC is that of the node's end
    Source: Calico cni-plugin dataplane_linux.go
    """
    pods = agents.pods
    for agent in pods.values():
        gates.pod_address(agent, family)
    # Whether it is answered does not matter: to send it, the pod must ask for its gateway.
    run_all(
        {
            pods[node]: [Probe(Protocol.ICMP, address, timeout=0.5)]
            for node in pods
            if (address := agents.nodes[node].addresses.of(family)) is not None
        }
    )
    ends = on_each(pods, lambda node: pod_end(pods[node]))
    hosts = on_each(pods, lambda node: host_end(agents.nodes[node], pods[node].addresses))

    found = [
        finding
        for node, end in ends.items()
        for finding in gateway_findings(f"pod on {node}", end, hosts[node], family)
    ]

    demand_none(found)


def test_podip_008_pods_are_told_both_of_their_addresses(agents: AgentPool) -> None:
    """A program learns its pod's addresses from its environment and from /etc/hosts.

    Given: a pod on each node, with the downward API's status.podIP and status.podIPs
    Then: both, and the lines of its name in /etc/hosts, list its addresses in the API's order
    Source: Kubernetes docs "Validate IPv4/IPv6 dual-stack"; kubernetes#103307
    """
    for agent in agents.pods.values():
        for each in Family:
            gates.pod_address(agent, each)
    views = on_each(agents.pods, lambda node: inside(agents.pods[node]))

    found = [
        finding
        for node, view in views.items()
        for finding in identity_findings(f"pod on {node}", view, agents.pods[node].addresses)
    ]

    demand_none(found)
