"""Calico on each node asks for both families: CFG-011, CFG-012, CFG-013."""

from __future__ import annotations

import pytest

from helpers import calico_config, netstate, node_config
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.platforms import CalicoNode
from helpers.verdicts import Blocked


@pytest.fixture
def calico_nodes(kube: Kube, facts: Facts) -> dict[str, CalicoNode]:
    """The calico-node pod of every node."""
    found = calico_config.calico_nodes(kube)
    missing = [node.name for node in facts.nodes if node.name not in found]
    if missing:
        raise Blocked("CFG-018", f"no calico-node runs on {', '.join(missing)}")
    return found


def test_cfg_011_cni_asks_for_the_family(facts: Facts, family: Family) -> None:
    """The CNI configuration on every node asks Calico's IPAM for an address of the family.

    Given: /etc/cni/net.d/10-calico.conflist on each node
    Then: its plugin of type calico uses calico-ipam, with assign_ipv6 "true" for IPv6 (it is off
        by default) and assign_ipv4 not switched off for IPv4 (it is on by default)
    Source: Calico v3.11 networking/dual-stack.md; Calico cni-plugin ipam_plugin.go
    """
    found = [
        line
        for node in facts.nodes
        for line in calico_config.cni_findings(node.name, family, facts.cni(node.name))
    ]
    demand_none(found)


def test_cfg_012_calico_knows_every_node_by_a_live_address(
    facts: Facts, agents: AgentPool, calico_nodes: dict[str, CalicoNode], family: Family
) -> None:
    """Calico has found an address of the family for every node, and it is the InternalIP.

    Given: the variables IP and IP6 of each calico-node, the annotation with its BGP address, and
        the interfaces of the node
    Then: the family is not switched off, and the BGP address is on an interface to other nodes
        and equals the node's InternalIP
    Source: Calico node/pkg/lifecycle/startup (IP6 unset or none: no IPv6); autodetection
    """
    if all(n.env.get("CALICO_NETWORKING_BACKEND") == "none" for n in calico_nodes.values()):
        pytest.skip("Calico does not route here (CALICO_NETWORKING_BACKEND=none, policy only)")
    states = netstate.of_nodes(agents)
    found = [
        line
        for node in facts.nodes
        for line in node_config.bgp_address_findings(
            node, family, calico_nodes[node.name].env, states[node.name]
        )
    ]
    demand_none(found)


def test_cfg_013_felix_programs_ipv6_on_every_node(
    facts: Facts, agents: AgentPool, calico_nodes: dict[str, CalicoNode], family: Family
) -> None:
    """Felix's IPv6 support is on at every node, by its settings and in the kernel.

    Given: FELIX_IPV6SUPPORT of each calico-node over the FelixConfiguration of the node over the
        default one, and ip6tables (both variants) and nftables of the node
    Then: the effective value is true, and there are cali- chains in ip6tables or a table ip6
        calico
    Source: Calico felix/config/config_params.go (default true; shipped manifests say false)
    """
    filters = netstate.netfilter_of_nodes(agents)
    found = [
        line
        for node, calico in calico_nodes.items()
        for line in calico_config.felix_ipv6_findings(calico, facts.felix, filters[node])
    ]
    demand_none(found)
