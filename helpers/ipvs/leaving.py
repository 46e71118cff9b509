"""A backend that leaves a Service while a connection to it is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from helpers.agents.deploy import POD_PORT
from helpers.findings import listed
from helpers.ipvs.kernel import Destination, RealServer, Serving, VirtualServer
from helpers.ipvs.nodes import read_kernel
from helpers.model import Family
from helpers.services import PREFER, cluster_ip
from helpers.verdicts import Inconclusive
from helpers.views import PodView
from helpers.waiting import eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.workloads import Workloads

ROLE: Final = "dsc/client-on"  # label of the backends: for a client on which node


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of the leaving and of the staying backend in each virtual server; None: not there."""

    leaving: Mapping[str, int | None]
    staying: Mapping[str, int | None]

    @classmethod
    def of(
        cls,
        servers: Mapping[VirtualServer, Serving],
        wanted: list[VirtualServer],
        leaving: RealServer,
        staying: RealServer,
    ) -> Weights:
        def weights(real: RealServer) -> dict[str, int | None]:
            return {s.protocol: _weight(servers.get(s), real) for s in wanted}

        return cls(weights(leaving), weights(staying))

    def __str__(self) -> str:
        return f"leaving {_told(self.leaving)}; staying {_told(self.staying)}"


def _weight(serving: Serving | None, real: RealServer) -> int | None:
    found: Destination | None = serving.real.get(real) if serving else None
    return found.weight if found else None


def _told(weights: Mapping[str, int | None]) -> str:
    return listed(
        f"{protocol} {'absent' if weight is None else f'weight {weight}'}"
        for protocol, weight in weights.items()
    )


def drained(weights: Weights) -> bool:
    """The open TCP connection keeps its real server, with weight 0; UDP has no such patience."""
    return weights.leaving == {"tcp": 0, "udp": None} and set(weights.staying.values()) == {1}


@dataclass(frozen=True, slots=True)
class Leaving:
    """A Service with two backends, and an open connection to the one that is to leave.

    Attributes:
        gone: the backend of the connection.
    """

    workloads: Workloads
    client: Agent
    host: Agent
    handle: int
    servers: list[VirtualServer]
    gone: PodView
    stays: PodView
    family: Family

    @classmethod
    def begin(
        cls,
        workloads: Workloads,
        agents: AgentPool,
        node: str,
        backends: Sequence[str],
        family: Family,
        within: float,
    ) -> Leaving:
        """Make the Service, wait until ``node`` balances it, and connect from a pod there.

        Args:
            backends: the nodes of the two backends.

        Raises:
            NotSettled: the node does not know both backends in time.
            Inconclusive: the connection could not be opened.
        """
        pods = workloads.pods(backends, families=[family], labels={ROLE: node})
        target = cluster_ip(workloads.service(policy=PREFER, selector={ROLE: node}), family)
        servers = [VirtualServer(protocol, target, 80) for protocol in ("tcp", "udp")]
        client, host = agents.peers[node], agents.nodes[node]
        first, second = (_real(pod, family) for pod in pods)
        eventually(
            lambda: Weights.of(read_kernel(host)[0].servers, servers, first, second),
            lambda now: {*now.leaving.values(), *now.staying.values()} == {1},
            within=within,
            describe=str,
            what=f"{node} knows both backends",
        )
        held = client.call_one("connect_hold", target=str(target), port=80)
        if held["handle"] is None:
            raise Inconclusive(f"no connection to the clusterIP from {client.name}: {held}")
        gone, stays = pods if held["server"] == pods[0].name else pods[::-1]
        return cls(workloads, client, host, held["handle"], servers, gone, stays, family)

    def retire(self) -> None:
        """Take the connection's backend out of the Service; it goes on running."""
        retired = {"metadata": {"labels": {ROLE: "retired"}}}
        self.workloads.kube.patch("v1", "Pod", self.gone.name, retired, self.gone.namespace)

    def weights(self) -> Weights:
        """Both backends in the node's kernel now."""
        return Weights.of(
            read_kernel(self.host)[0].servers,
            self.servers,
            _real(self.gone, self.family),
            _real(self.stays, self.family),
        )

    def end(self) -> dict[str, Any]:
        """Close the connection; what became of it (see the agent's ``report``)."""
        report = self.client.call_one("report", handle=self.handle)
        self.client.call_one("close", handle=self.handle)
        return report


def _real(pod: PodView, family: Family) -> RealServer:
    return RealServer(pod.addresses.require(family), POD_PORT)
