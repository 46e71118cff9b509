"""Addresses of a link stay on the link."""

from __future__ import annotations

from ipaddress import IPv6Address

from helpers import scopes
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.model import Family
from helpers.packet_matrix.ways import Place, Way
from helpers.parallel import on_each
from helpers.pod_netns import POD_INTERFACE, link


def test_pkt_019_limited_scopes_are_not_forwarded(
    family: Family, agents: AgentPool, between_pods: list[Way]
) -> None:
    """A packet with a link-local source, or to a group, does not leave the pod's link.

    Given: pods within and between nodes, a plain packet that arrives; then packets with a
        link-local source, to another pod's link-local address, and to groups of link, site and
        global scope; all pods' interfaces and the nodes' network are captured
    Then: none of them is seen beyond the sender's link, and the node answers the link-local source
        "beyond scope of source address"
    Source: RFC 4007 9, RFC 4291 2.5.6, 2.7, RFC 4443 3.1
    """
    pods = {f"pod on {node}": pod for node, pod in agents.pods.items()}
    pods |= {f"second pod on {node}": pod for node, pod in agents.peers.items()}
    held = on_each(pods.values(), lambda pod: link(pod, POD_INTERFACE).of(family, "link")[0].ip)
    everywhere = [
        Place(f"{POD_INTERFACE} of the {name}", pod, POD_INTERFACE) for name, pod in pods.items()
    ]
    seen = scopes.observe(
        between_pods, {pod: IPv6Address(ip) for pod, ip in held.items()}, everywhere
    )
    found = scopes.findings(seen)
    demand_none(found)
    scopes.require_control(seen)
