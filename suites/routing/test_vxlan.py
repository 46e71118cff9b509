"""The device that encapsulates IPv6: RTE-006."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from helpers.agents.pool import AgentPool
from helpers.encapsulation import TUNNEL_ADDRESS, vxlan_device, vxlan_findings
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.model import Family
from helpers.parallel import on_each
from helpers.paths import address

if TYPE_CHECKING:
    from clusters.api import Cluster


def test_rte_006_the_vxlan_device_knows_every_peer(
    family: Family, cluster: Cluster, agents: AgentPool, facts: Facts
) -> None:
    """Every node's VXLAN device for IPv6 has its address and knows where each peer is.

    Given: the device on every node with its forwarding and neighbour entries, and the tunnel
        addresses that Calico gave the nodes
    Then: the device has the node's tunnel address; for each other node there is a neighbour entry
        for its tunnel address, and the frames for it are sent to that node's IPv6 address
    Source: Calico felix dataplane/linux/vxlan_mgr.go
    """
    if cluster.spec.encapsulation.of(family).vxlan_mode == "Never":
        pytest.skip(f"the profile has no VXLAN for {family.kubernetes}")
    devices = on_each(agents.nodes, lambda node: vxlan_device(agents.nodes[node]))
    given = {node.name: node.annotations.get(TUNNEL_ADDRESS) for node in facts.nodes}
    findings = vxlan_findings(
        devices,
        {node: ip_address(value) if value else None for node, value in given.items()},
        {node: address(agent, family) for node, agent in agents.nodes.items()},
    )
    demand_none(findings)
