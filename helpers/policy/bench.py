"""The pods that policies are tried on: one on each node, shared by all policy tests of a worker.

Pods take seconds and policies milliseconds, so the pods stay and the policies come and go. Each
test selects them by their labels, and its control waits until the policies of the test before are
gone. The clients are the agents of the pool, which no policy of a test ever selects.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from helpers.agents import deploy
from helpers.gates import pod_address
from helpers.kube import Object
from helpers.model import FAMILIES, Family, IPAddress, IPNetwork, Protocol
from helpers.paths import address
from helpers.plan import Kind, Step, plan
from helpers.policy.objects import network_policy
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from clusters.api import Cluster
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.kube import Kube
    from helpers.views import PodView
    from helpers.workloads import Workloads

PODS: Final = 3  # at least: one to protect, one that is allowed, one that is not
NAME: Final = "bench"  # label: which of the pods it is
ROLE: Final = "role"  # label: friend or stranger
EXTRA_PORTS: Final = range(8081, 8086)  # TCP and UDP echo beside deploy.POD_PORT
SCTP_PORTS: Final = (deploy.POD_PORT, 8081)  # where the node's kernel has SCTP
NAMED: Final[Mapping[str, tuple[str, int]]] = {"web": ("TCP", 8081), "data": ("UDP", 8082)}


def flows(port: int) -> tuple[Kind, ...]:
    """TCP, UDP and echo to an echo server."""
    return (
        Kind("tcp", Protocol.TCP, port),
        Kind("udp", Protocol.UDP, port),
        Kind("echo", Protocol.ICMP, None),
    )


PORT: Final = deploy.POD_PORT
FLOWS: Final = flows(PORT)


@dataclass(frozen=True, slots=True, eq=False)
class BenchPod:
    """One pod of the bench. ``label`` is how cells show it."""

    view: PodView
    agent: Agent

    @property
    def name(self) -> str:
        return self.view.name

    @property
    def node(self) -> str:
        return str(self.view.node)

    @property
    def label(self) -> str:
        return f"bench {self.name} on {self.node}"

    def address(self, family: Family) -> IPAddress:
        """The pod's address.

        Raises:
            Blocked: by PODIP-002, when it has none of the family.
        """
        return pod_address(self.agent, family)


class Bench:
    """The pods, and how policies are tried on them.

    Attributes:
        protected: the pod that most tests protect, on the last node.
        friend, stranger: pods of the same namespace, on other nodes where there are enough.
    """

    def __init__(
        self, kube: Kube, cluster: Cluster, agents: AgentPool, namespace: str, pods: list[BenchPod]
    ) -> None:
        self.kube = kube
        self.cluster = cluster
        self.agents = agents
        self.namespace = namespace
        self.pods = pods
        self.stranger, self.friend, self.protected = pods[0], pods[1], pods[-1]
        self._numbers = itertools.count(1)

    @property
    def outside(self) -> Agent | None:
        """The outside host, where it can reach pods by their addresses."""
        return self.agents.outside if self.cluster.spec.native else None

    # -- clients and targets ----------------------------------------------------------------

    def clients(self, target: BenchPod, family: Family) -> dict[str, Agent]:
        """Everybody that a policy of the target can keep out, by the labels that cells show.

        A pod on each node (the target's own too), the other pods of the bench, the other nodes,
        and the outside. Not the target's node: Kubernetes promises that it is never kept out.
        """
        found = {f"pod on {node}": agent for node, agent in self.agents.pods.items()}
        found |= {pod.label: pod.agent for pod in self.pods if pod is not target}
        for agent in found.values():
            pod_address(agent, family)
        found |= {f"node {n}": agent for n, agent in self.agents.nodes.items() if n != target.node}
        if self.outside is not None:
            found["outside"] = self.outside
        return found

    def from_pod(self, client: BenchPod, family: Family) -> list[Step]:
        """Probes to everybody that a policy of the client can keep it from: see ``clients``."""
        targets = self.clients(client, family)
        if self.agents.outside is not None:
            targets["outside"] = self.agents.outside
        source = {client.label: client.agent}
        return [
            step
            for name, agent in targets.items()
            for step in plan(source, {name: _address(agent, family)}, flows(agent.port))
        ]

    def to_pod(
        self, sources: Mapping[str, Agent], target: BenchPod, family: Family, kinds: Sequence[Kind]
    ) -> list[Step]:
        """Probes from everybody to a pod of the bench; only the pod itself may answer."""
        address = target.address(family)
        return [
            step
            for kind in kinds
            for step in plan(
                sources,
                {target.label: address},
                [kind],
                # An echo reply has no identity.
                expect=frozenset() if kind.port is None else frozenset({target.name}),
            )
        ]

    # -- policies -----------------------------------------------------------------------------

    @property
    def speaks_sctp(self) -> BenchPod | None:
        """A pod of the bench whose node's kernel has SCTP, None where no node's has."""
        return next((pod for pod in self.pods if has_sctp(pod.agent)), None)

    def policy(self, pod: BenchPod | None, **directions: Any) -> Object:
        """A NetworkPolicy for one pod, or for all (None); see ``helpers.policy.objects``."""
        labels = {NAME: pod.name} if pod is not None else {}
        return network_policy(self.namespace, self.fresh_name(), labels, **directions)

    def fresh_name(self) -> str:
        """A name for an object of a test: the namespace's name makes it unique in the cluster."""
        return f"{self.namespace}-{next(self._numbers)}"

    @contextmanager
    def enforced(self, policies: Sequence[Object]) -> Iterator[None]:
        """Policies exist while the block runs."""
        try:
            self.kube.apply(policies)
            yield
        finally:
            for each in policies:
                meta = each["metadata"]
                self.kube.delete(
                    each["apiVersion"], each["kind"], meta["name"], meta.get("namespace")
                )


# -- how it is made -------------------------------------------------------------------------------


def make(kube: Kube, cluster: Cluster, agents: AgentPool, workloads: Workloads) -> Bench:
    """Create the pods and wait for them; routes from the outside to their addresses.

    Raises:
        Blocked: by PODIP-002, when a new pod gets no address.
        Inconclusive: the pods do not become Ready, or the outside refuses a route.
    """
    nodes = list(agents.nodes)
    places = list(itertools.islice(itertools.cycle(nodes), max(PODS, len(nodes))))
    names = [f"pod-{number}" for number in range(1, len(places) + 1)]
    roles = ["stranger", "friend", *(["other"] * len(places))]
    for name, node, role in zip(names, places, roles, strict=False):
        speaks = has_sctp(agents.nodes[node])
        workloads.create_pod(
            node,
            name=name,
            labels={NAME: name, ROLE: role},
            mutate=partial(_more_ports, sctp=speaks),
        )
    # A pod without one family is told to the tests of that family alone.
    views = workloads.wait_pods(names, families=())
    bench = Bench(
        kube,
        cluster,
        agents,
        workloads.namespace,
        [BenchPod(view, workloads.agent(view)) for view in views],
    )
    if bench.outside is not None:
        lead_to(bench.outside, bench.pods, agents, "replace")
    return bench


def has_sctp(agent: Agent) -> bool:
    """Whether the kernel of the agent's node has SCTP."""
    return bool(agent.hello["capabilities"].get("sctp"))


def _more_ports(pod: Object, *, sctp: bool) -> None:
    (container,) = pod["spec"]["containers"]
    for number in EXTRA_PORTS:
        container["command"] += ["--tcp", str(number), "--udp", str(number)]
    for number in SCTP_PORTS if sctp else ():
        container["command"] += ["--sctp", str(number)]
    container["ports"] += [
        {"name": name, "containerPort": number, "protocol": protocol}
        for name, (protocol, number) in NAMED.items()
    ]


def lead_to(outside: Agent, pods: Sequence[BenchPod], agents: AgentPool, verb: str) -> None:
    """Give the outside host a route to each pod via its node (``replace``), or take it (``del``).

    A pod may lie in a block that came into being after the outside learned the blocks' routes.

    Raises:
        Inconclusive: the host refuses.
    """
    commands = []
    for pod in pods:
        for family in FAMILIES:
            to, via = pod.view.address(family), agents.nodes[pod.node].addresses.of(family)
            if to is not None and via is not None:
                commands.append(f"route {verb} {to}/{to.max_prefixlen} via {via}\n")
    done = outside.call_one("run", argv=["ip", "-batch", "-"], input="".join(commands))
    if done["rc"] != 0:
        raise Inconclusive(f"{outside.name}: ip route {verb}: {done['stderr'].strip()}")


def pod_block(facts: Facts, family: Family, inside: IPAddress | None = None) -> IPNetwork:
    """A range that pods have their addresses of a family from: an enabled pool's.

    Args:
        inside: an address that it must hold.

    Raises:
        Inconclusive: there is none.
    """
    pools = [pool.cidr for pool in facts.enabled_pools(family)]
    found = next((cidr for cidr in pools if inside is None or inside in cidr), None)
    if found is None:
        raise Inconclusive(f"no enabled IPPool holds {inside or family.kubernetes}")
    return found


def _address(agent: Agent, family: Family) -> IPAddress:
    if agent.node is None:
        return agent.addresses.require(family)  # the outside has both
    return address(agent, family)
