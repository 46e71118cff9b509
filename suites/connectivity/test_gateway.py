"""How a pod finds its gateway, and that nobody else is on its link: CONN-014."""

from __future__ import annotations

from helpers import gates, isolation, paths
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.model import Family, Protocol
from helpers.parallel import on_each
from helpers.pod_netns import (
    POD_INTERFACE,
    host_end,
    ip,
    link_locals,
    neighbours,
    pod_end,
    resolution_findings,
)
from helpers.verdicts import Blocked


def test_conn_014_pods_resolve_their_gateway_and_nobody_else(
    agents: AgentPool, family: Family
) -> None:
    """A pod's link leads to its node only, and the node always answers on it.

    Given: a pod on each node, whose neighbour table is flushed
    Then: with its next packet it resolves its gateway (ARP for IPv4, neighbour discovery for
        IPv6) to the node's end of its veth, where proxy_arp or proxy_ndp is 1; IPv6 link-local
        addresses of other pods, on its node and others, do not answer while the gateway's does
    Source: Calico felix endpoint_mgr.go, cni-plugin dataplane_linux.go
    """
    pods = agents.pods
    for agent in pods.values():
        gates.pod_address(agent, family)
        agent.require("net_admin")
    hosts = on_each(pods, lambda node: host_end(agents.nodes[node], pods[node].addresses))
    ends = on_each(pods, lambda node: pod_end(pods[node]))
    gateways = {}
    for node, end in ends.items():
        gateway = end.gateway(family)
        if gateway is None:
            raise Blocked("PODIP-007", f"the pod on {node} has no default route", family)
        gateways[node] = gateway

    version = f"-{family.version}"
    on_each(pods, lambda node: ip(pods[node], version, "neigh", "flush", "dev", POD_INTERFACE))
    within = [path for path in paths.within_nodes(agents) if path.source in pods.values()]
    paths.observe(within, family, [Protocol.ICMP])  # answered or not: it must be sent
    known = on_each(pods, lambda node: neighbours(pods[node]))

    found = [
        finding
        for node, gateway in gateways.items()
        for finding in resolution_findings(
            f"pod on {node}", gateway, known[node], hosts[node], family
        )
    ]
    demand_none(found)
    if family is Family.IPV6:  # IPv4 interfaces of pods have no link-local addresses
        seconds = on_each(agents.peers, lambda node: pod_end(agents.peers[node]))
        every = link_locals({f"pod on {node}": end for node, end in ends.items()})
        every |= link_locals({f"second pod on {node}": end for node, end in seconds.items()})
        isolation.demand(
            [
                isolation.Isolation(
                    where=(where := f"pod on {node}"),
                    agent=pods[node],
                    gateway=gateways[node],
                    others={name: held for name, held in every.items() if name != where},
                )
                for node in pods
            ]
        )
