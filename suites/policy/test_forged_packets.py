"""Packets that might slip past policy: NPOL-012."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.agents.pool import AgentPool
from helpers.gates import pod_address, require_node_pairs
from helpers.model import Family
from helpers.policy.bench import PORT, Bench
from helpers.policy.evasion import (
    BESIDE_VXLAN,
    LEGAL,
    NEVER_DELIVERED,
    VXLAN_PORT,
    kinds,
    tunnelled,
)
from helpers.policy.objects import from_peers, port
from helpers.policy.packets import packet_table
from helpers.policy.table import held, require_open, settled

if TYPE_CHECKING:
    from clusters.api import Cluster

OPEN = 8081
HINT = (
    "a rule ahead of Calico's accepts packets by their extension headers or fragments: look at "
    "what comes before cali-FORWARD in `ip6tables -S FORWARD` of the node"
)


def test_npol_012_headers_and_fragments_do_not_hide_a_denied_port(
    family: Family, cluster: Cluster, agents: AgentPool, bench: Bench
) -> None:
    """A denied UDP port stays denied however the datagram is written, and pods make no tunnels.

    Given: UDP datagrams from a pod of the same node and from one of another node, plain, behind a
        hop-by-hop header, behind destination options once and twelve times, in an atomic fragment,
        in fragments, with a first fragment of 8 octets; all of them are seen at the target
    Then: under a policy that opens one UDP port, all variants to it are still seen at the target's
        interface and none to another port; nor is one whose UDP header is in the second fragment;
        VXLAN from a pod is never seen, while the same bytes to the next port are
    Source: RFC 7112; RFC 8200 4.5; Calico felix rules/endpoints.go (encapsulated packets of
        workloads are dropped)
    """
    require_node_pairs(cluster.state, agents, family)
    pod, friend = bench.protected, bench.friend
    near = agents.pods[pod.node]
    senders = {
        f"pod on {pod.node}": (near, pod_address(near, family)),
        friend.label: (friend.agent, friend.address(family)),
    }
    legal = packet_table(
        senders,
        pod,
        family,
        kinds(LEGAL, PORT, OPEN),
        lambda cell: cell.detail.endswith(str(OPEN)),
    )
    hidden = packet_table(senders, pod, family, kinds(NEVER_DELIVERED, PORT), lambda _: False)
    require_open(legal)
    policy = bench.policy(pod, ingress=[from_peers(ports=[port(OPEN, "UDP")])])
    with bench.enforced([policy]):
        settled(legal | hidden, "ingress to one UDP port", HINT)
        held(legal | hidden, "ingress to one UDP port", HINT)

    tunnels = packet_table(
        senders,
        pod,
        family,
        {f"VXLAN to {number}": tunnelled(number) for number in (VXLAN_PORT, BESIDE_VXLAN)},
        lambda cell: cell.detail.endswith(str(BESIDE_VXLAN)),
    )
    # The next port is open again once the policy is gone from the node, which takes a moment.
    what, hint = "VXLAN that pods make is dropped", "is allowVXLANPacketsFromWorkloads set?"
    settled(tunnels, what, hint)
    held(tunnels, what, hint)
