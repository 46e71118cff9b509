"""A node under Calico's policy for hosts (HostEndpoint), with what the node needs to live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from helpers.agents.deploy import NODE_PORT
from helpers.kube import Object
from helpers.model import Family, IPAddress
from helpers.naming import MANAGED_BY, PREFIX
from helpers.pod_netns import UNRESOLVED, ip
from helpers.policy.objects import CALICO, global_policy

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.kube import Kube

LABEL: Final = f"{PREFIX}-host"  # of the HostEndpoints of tests
NAME: Final = f"{PREFIX}-host"
ORDER: Final = 10.0
KUBELET: Final = 10250
# Router and neighbour solicitations and advertisements (RFC 4861). What Calico does for pods by
# itself (felix rules/static.go, ICMPv6Filter) it does not do towards HostEndpoints; neither are
# these among the failsafe ports, which protect SSH, BGP, etcd and the API server.
NEIGHBOUR_DISCOVERY: Final = (133, 134, 135, 136)


def host_endpoint(node: str, interface: str) -> Object:
    """A HostEndpoint of one interface of a node; what no policy allows is denied (no profiles)."""
    return {
        "apiVersion": CALICO,
        "kind": "HostEndpoint",
        "metadata": {"name": f"{NAME}-{node}", "labels": {**MANAGED_BY, LABEL: "true"}},
        "spec": {"node": node, "interfaceName": interface},
    }


def allow_list() -> Object:
    """The policy of these HostEndpoints: neighbour discovery, kubelet and the node agent come in.

    Out go neighbour discovery, TCP and UDP. Everything else is denied, echo requests for one.
    """
    discovery = [
        {"action": "Allow", "protocol": "ICMPv6", "icmp": {"type": kind}, "ipVersion": 6}
        for kind in NEIGHBOUR_DISCOVERY
    ]
    services = {
        "action": "Allow",
        "protocol": "TCP",
        "destination": {"ports": [KUBELET, NODE_PORT]},
    }
    away = [{"action": "Allow", "protocol": protocol} for protocol in ("TCP", "UDP")]
    return global_policy(
        NAME,
        f"{LABEL} == 'true'",
        order=ORDER,
        ingress=[*discovery, services],
        egress=[*discovery, *away],
    )


@contextmanager
def protected_host(kube: Kube, node: str, interface: str) -> Iterator[None]:
    """The node is under the allow list while the block runs.

    The policy comes first and goes last: without it the HostEndpoint alone would cut the node off.
    """
    policy, endpoint = allow_list(), host_endpoint(node, interface)
    try:
        kube.apply([policy])
        kube.apply([endpoint])
        yield
    finally:
        kube.delete(CALICO, "HostEndpoint", endpoint["metadata"]["name"])
        kube.delete(CALICO, "GlobalNetworkPolicy", policy["metadata"]["name"])


def forget_nodes(nodes: Mapping[Agent, str], family: Family) -> None:
    """Flush the neighbour entries of interfaces: agent of a node -> interface.

    Raises:
        Inconclusive: the node refuses.
    """
    for agent, interface in nodes.items():
        ip(agent, f"-{family.version}", "neigh", "flush", "dev", interface)


def unresolved(agent: Agent, interface: str, others: Mapping[str, IPAddress]) -> list[str]:
    """Nodes whose link-layer address a node could not find out, as sentences."""
    entries = {
        entry["dst"]: set(entry.get("state", []))
        for entry in ip(agent, "-6", "neigh", "show", "dev", interface)
    }
    return [
        f"{agent.node}: neighbour entry of {name} ({address}) is "
        f"{' '.join(sorted(entries.get(str(address), {'missing'})))}: neighbour solicitations or "
        "advertisements are dropped; policies of HostEndpoints must allow ICMPv6 types "
        f"{', '.join(map(str, NEIGHBOUR_DISCOVERY))} in both directions"
        for name, address in others.items()
        if not entries.get(str(address), set()) - UNRESOLVED
    ]
