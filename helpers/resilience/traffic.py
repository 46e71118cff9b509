"""The flows that disturbances are judged by: every kind, on every way that the cluster has.

Nodes form a ring, so that each node sends and receives on each way with as few flows as possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from helpers.flow_model import Flow, FlowKind, Way
from helpers.model import FAMILIES, DualAddresses, Family, IPAddress, Protocol
from helpers.names import resolver_of
from helpers.plan import Kind, plan, programmed
from helpers.resilience.rolls import Roll, restart
from helpers.services import agent_service, clients_inside
from helpers.verdicts import Blocked
from helpers.workloads import ServiceView, tcp_port, udp_port

if TYPE_CHECKING:
    from clusters.spec import ClusterSpec
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.kube import Kube
    from helpers.workloads import Workloads

DATAGRAM_PORT: Final = 19_200  # where receivers behind the Service listen
SERVICE_TCP: Final = 80
SERVICE_UDP: Final = 9000
# Seconds between two sendings: a tenth of the tightest limit, and light on a small machine.
PACE: Final = {
    FlowKind.UDP: 0.05,
    FlowKind.ICMP: 0.1,
    FlowKind.TCP: 0.1,
    FlowKind.IDLE: 1.0,
    FlowKind.CONNECT: 0.4,
    FlowKind.DNS: 0.4,
}

CONTROL_PATIENCE: Final = 0.2  # seconds: what takes longer on loopback is the machine's doing


@dataclass(frozen=True, slots=True)
class Place:
    """What flows run between: agents, one Service with a backend on every node, DNS, outside.

    Attributes:
        nodes: addresses of each node, for NodePorts.
        dns: server that pods ask, its name for the Service of each family to ask for.
    """

    agents: AgentPool
    service: ServiceView
    nodes: dict[str, DualAddresses]
    dns: tuple[IPAddress, str]
    outside: Agent | None

    def flows(self, families: Iterable[Family] = FAMILIES) -> list[Flow]:
        """All flows of some families."""
        return [flow for family in families for flow in self._of(family)]

    def _of(self, family: Family) -> list[Flow]:
        names = list(self.agents.pods)
        found: list[Flow] = []
        for index, node in enumerate(names):
            following = names[(index + 1) % len(names)]
            if following != node:
                found += self._between(family, node, following)
            found += self._within(family, node)
            found += [
                _control(family, each[node]) for each in (self.agents.pods, self.agents.peers)
            ]
            found += self._service(family, node)
            if self.outside is not None:
                found += self._outside(family, node, self.outside)
        return found

    def _between(self, family: Family, node: str, following: str) -> list[Flow]:
        source, target = self.agents.pods[node], self.agents.pods[following]
        way, to = Way.OTHER_NODE, f"pod on {following}"
        return [
            *_straight(family, way, source, target, to),
            _flow(FlowKind.ICMP, family, way, source, target, to),
            _flow(FlowKind.IDLE, family, way, source, target, to),
        ]

    def _within(self, family: Family, node: str) -> list[Flow]:
        pods = self.agents.pods[node], self.agents.peers[node]
        return _straight(family, Way.SAME_NODE, *pods, f"second pod on {node}")

    def _service(self, family: Family, node: str) -> list[Flow]:
        address = self.service.cluster_ips.of(family)
        if address is None:
            return []
        source, way = self.agents.peers[node], Way.CLUSTER_IP
        receivers = tuple(self.agents.pods.values())
        tcp = [
            Flow(kind, way, source, address, "Service", SERVICE_TCP, interval=PACE[kind])
            for kind in (FlowKind.TCP, FlowKind.CONNECT)
        ]
        udp = Flow(
            FlowKind.UDP,
            way,
            source,
            address,
            "Service",
            SERVICE_UDP,
            receivers=receivers,
            listen=DATAGRAM_PORT,
            interval=PACE[FlowKind.UDP],
        )
        return [*tcp, udp, *self._names(family, source)]

    def _names(self, family: Family, source: Agent) -> list[Flow]:
        server, name = self.dns
        if Family.of(server) is not family:
            return []  # pods ask a server of the other family: SVC-005 and SVC-017 judge that
        return [
            Flow(
                FlowKind.DNS,
                Way.CLUSTER_IP,
                source,
                server,
                "cluster DNS",
                53,
                question=(name, family.record),
                interval=PACE[FlowKind.DNS],
            )
        ]

    def _outside(self, family: Family, node: str, outside: Agent) -> list[Flow]:
        pod = self.agents.pods[node]
        found = [
            _flow(FlowKind.CONNECT, family, Way.EGRESS, pod, outside, "outside"),
            _flow(FlowKind.UDP, family, Way.EGRESS, pod, outside, "outside"),
            _flow(FlowKind.TCP, family, Way.INGRESS, outside, pod, f"pod on {node}"),
            _flow(FlowKind.UDP, family, Way.INGRESS, outside, pod, f"pod on {node}"),
        ]
        if node == next(iter(self.agents.pods)):
            found.append(_control(family, outside))
        address = self.nodes[node].of(family)
        port = self.service.node_ports.get("tcp")
        if address is not None and port is not None:
            found += [
                Flow(
                    kind, Way.NODE_PORT, outside, address, f"node {node}", port, interval=PACE[kind]
                )
                for kind in (FlowKind.TCP, FlowKind.CONNECT)
            ]
        return found


def _flow(kind: FlowKind, family: Family, way: Way, source: Agent, target: Agent, to: str) -> Flow:
    port = None if kind in (FlowKind.UDP, FlowKind.ICMP) else target.port
    receivers = (target,) if kind is FlowKind.UDP else ()
    address = target.addresses.require(family)
    return Flow(kind, way, source, address, to, port, receivers=receivers, interval=PACE[kind])


def _straight(family: Family, way: Way, source: Agent, target: Agent, to: str) -> list[Flow]:
    return [_flow(kind, family, way, source, target, to) for kind in (FlowKind.TCP, FlowKind.UDP)]


def _control(family: Family, agent: Agent) -> Flow:
    """An agent's connection to itself: it stalls when the machine holds its processes up."""
    address = ip_address("127.0.0.1" if family is Family.IPV4 else "::1")
    return Flow(
        FlowKind.TCP,
        Way.CONTROL,
        agent,
        address,
        "itself",
        agent.port,
        interval=PACE[FlowKind.TCP],
        patience=CONTROL_PATIENCE,
    )


def families_of(agents: AgentPool) -> tuple[Family, ...]:
    """Families that every pod agent has an address of: what can be judged at all."""
    pods = [*agents.pods.values(), *agents.peers.values()]
    return tuple(f for f in FAMILIES if all(pod.addresses.of(f) is not None for pod in pods))


def require_pods(agents: AgentPool, family: Family) -> None:
    """Gate G1 for flows.

    Raises:
        Blocked: by PODIP-002, when an agent's pod has no address of the family.
    """
    if family not in families_of(agents):
        raise Blocked("PODIP-002", f"a pod of the agents has no {family} address", family)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a disturbance needs of the run: fixtures together.

    Attributes:
        roll: what makes calico-node roll.
    """

    state: Path
    spec: ClusterSpec
    kube: Kube
    facts: Facts
    agents: AgentPool
    workloads: Workloads
    outside: Agent | None
    roll: Roll = field(default_factory=restart)

    @property
    def families(self) -> tuple[Family, ...]:
        """Families that can be judged."""
        return families_of(self.agents)

    def place(self) -> Place:
        """Make the Service that flows use, and wait until it answers everybody.

        Raises:
            AssertionError: it does not.
        """
        agents = self.agents
        ports = [tcp_port(SERVICE_TCP), udp_port(SERVICE_UDP, DATAGRAM_PORT)]
        service = agent_service(self.workloads, type="NodePort", ports=ports)
        targets = {f"clusterIP {address}": address for address in service.cluster_ips.all}
        kinds = [Kind("tcp", Protocol.TCP, SERVICE_TCP)]
        programmed(plan(clients_inside(agents), targets, kinds, timeout=1.0), "the Service answers")
        resolver = resolver_of(next(iter(agents.peers.values())))
        name = resolver.service(service.namespace, service.name)
        nodes = {node.name: node.internal_ips for node in self.facts.nodes}
        return Place(agents, service, nodes, (resolver.servers[0], name), self.outside)
