"""Nodes whose kube-proxy keeps tables, and how they differ from the API now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.agents.deploy import HOST_ROOT
from helpers.egress import own_addresses
from helpers.model import Family
from helpers.parallel import on_each
from helpers.proxy_tables import (
    Finding,
    NodeRules,
    ProxyTable,
    listening_addresses,
    parse_tables,
    promised,
    read_commands,
    table_findings,
)
from helpers.service_proxy_config import declared_modes
from helpers.services import EndpointSlice
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from clusters.spec import ClusterSpec
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.kube import Kube

MODES = ("iptables", "nftables")


def declared_nodes(spec: ClusterSpec, facts: Facts) -> dict[str, str]:
    """Mode by node as declared; where the profile leaves it open, what kube-proxy answers.

    Declared, not answered: a kube-proxy that hangs does not answer, and must not be left out.
    """
    declared = declared_modes(spec, facts.nodes)
    return {n: facts.proxy_mode(n) if mode == "auto" else mode for n, mode in declared.items()}


def with_tables(spec: ClusterSpec, facts: Facts) -> dict[str, str]:
    """Mode by node, of the nodes whose kube-proxy was declared to keep tables."""
    return {n: mode for n, mode in declared_nodes(spec, facts).items() if mode in MODES}


def read_table(agent: Agent, mode: str, family: Family) -> ProxyTable:
    """One node's rules of one family, with the node's own programs.

    Raises:
        Inconclusive: a program is missing or fails for another reason than an absent table.
    """
    outputs = []
    for argv in read_commands(mode, family):
        done = agent.call_one("run", argv=argv, root=HOST_ROOT)
        absent = "No such file or directory" in done["stderr"] and mode == "nftables"
        if done["rc"] != 0 and not absent:
            raise Inconclusive(
                f"{agent.name}: `{' '.join(argv)}` on the node failed: {done['stderr'].strip()}"
            )
        # No table at all is an empty one: kube-proxy has programmed nothing for this family.
        outputs.append(done["stdout"] if done["rc"] == 0 else '{"nftables": []}')
    return parse_tables(mode, outputs)


def differences(
    kube: Kube, facts: Facts, agents: AgentPool, modes: Mapping[str, str], family: Family
) -> dict[Finding, str]:
    """How the rules of the nodes differ from the API at this moment."""
    services = kube.objects("v1", "Service")
    slices = kube.objects("discovery.k8s.io/v1", "EndpointSlice")
    promises = promised(services, map(EndpointSlice.from_api, slices), family)
    setting = facts.kube_proxy.get("nodePortAddresses")
    internal = {node.name: node.internal_ips.of(family) for node in facts.nodes}

    def of_node(name: str) -> dict[Finding, str]:
        agent, mode = agents.nodes[name], modes[name]
        nftables = mode == "nftables"  # iptables mode decides by address type, not by a list
        rules = NodeRules(
            node=name,
            mode=mode,
            table=read_table(agent, mode, family),
            listening=listening_addresses(setting, internal[name], own_addresses(agent, family))
            if nftables
            else None,
            judged_listening=nftables,
        )
        return table_findings(rules, promises, family)

    return {key: text for found in on_each(modes, of_node).values() for key, text in found.items()}
