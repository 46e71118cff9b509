"""ICMP errors find the pod whose packet they are about."""

from __future__ import annotations

from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.gates import pod_address
from helpers.icmp_errors import port_unreachables, quote_findings, require_open_port
from helpers.model import Family


def test_egr_007_icmp_errors_reach_the_pod(
    family: Family, agents: AgentPool, outside: Agent
) -> None:
    """An ICMP error about a pod's flow reaches the pod, and quotes the pod's own packet.

    Given: a pod on each node that sends UDP to a closed port of the outside host, which answers
        destination-unreachable; just before, the same pod reached its open port.
    Then: the error came to the pod's eth0 and quotes the pod's own address and port, and the
        pod's connected socket was told that the connection was refused.
    Source: RFC 4443 2.4 and 3.1, RFC 792; RFC 5508 4.2 for the translated family.
    """
    target = outside.addresses.require(family)
    pods = {node: agent for node, agent in agents.pods.items() if pod_address(agent, family)}
    require_open_port(pods, target, outside.port)
    findings = []
    for node, seen in port_unreachables(pods, target).items():
        own = pod_address(pods[node], family)
        label = f"{pods[node].identity} on {node}"
        findings += quote_findings(label, seen.quotes, own=own, target=target, port=seen.port)
        findings += seen.socket_findings(label)
    demand_none(findings)
