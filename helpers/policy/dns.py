"""The cluster's DNS servers as something that a policy opens or closes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from helpers.agents.client import Result
from helpers.matrix import Cell, Matrix
from helpers.model import Family, IPAddress, Protocol
from helpers.names import resolver_of
from helpers.parallel import on_each
from helpers.plan import Kind
from helpers.policy.objects import port
from helpers.policy.table import ANSWER, SILENCE, Truth
from helpers.probes import Outcome
from helpers.verdicts import Blocked
from helpers.workloads import ServiceView

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.kube import Kube

DNS_NAMESPACE: Final = "kube-system"
DNS_LABELS: Final[Mapping[str, str]] = {"k8s-app": "kube-dns"}  # CoreDNS has it, too
DNS_SERVICE: Final = "kube-dns"
DNS_PORTS: Final = [port(53, "UDP"), port(53, "TCP")]
METRICS: Final = Kind("tcp 9153", Protocol.TCP, 9153, connect_only=True)  # CoreDNS's own port
RECORD: Final = "A"  # of kubernetes.default: what is asked does not depend on how it is asked


@dataclass(frozen=True, slots=True)
class DnsServers:
    """DNS servers by label, and addresses that lead to one of them (clusterIP of the family)."""

    namespace: str
    labels: Mapping[str, str]
    pods: Mapping[str, IPAddress]
    services: Mapping[str, IPAddress]

    @property
    def all(self) -> dict[str, IPAddress]:
        return {**self.pods, **self.services}


def cluster_dns(kube: Kube, family: Family) -> DnsServers:
    """The cluster's DNS servers over one family.

    Raises:
        Blocked: by PODIP-002, when a server has no address of the family.
    """
    pods = {}
    for view in kube.pods(DNS_NAMESPACE, ",".join(f"{k}={v}" for k, v in DNS_LABELS.items())):
        if not view.ready or view.deleting:
            continue
        address = view.address(family)
        if address is None:
            raise Blocked("PODIP-002", f"DNS server {view.label} has no {family} address", family)
        pods[view.name] = address
    if not pods:
        raise Blocked("EGR-009", f"no DNS server with labels {dict(DNS_LABELS)} is ready", family)
    service = kube.get("v1", "Service", DNS_SERVICE, DNS_NAMESPACE)
    cluster_ip = ServiceView.from_api(service).cluster_ips.of(family) if service else None
    services = {f"Service {DNS_SERVICE}": cluster_ip} if cluster_ip else {}
    return DnsServers(DNS_NAMESPACE, DNS_LABELS, pods, services)


def name_table(
    clients: Mapping[str, Agent], servers: DnsServers, allowed: Callable[[Cell], bool]
) -> Truth:
    """A table of questions: every client asks every server, over UDP and TCP.

    REACHED means that the name was resolved.
    """
    cells = [
        Cell(client, server, Family.of(address), f"dns over {transport}")
        for client in clients
        for server, address in servers.all.items()
        for transport in (Protocol.UDP, Protocol.TCP)
    ]
    expected = {c: Outcome.REACHED if allowed(c) else Outcome.TIMEOUT for c in cells}

    names = on_each(clients, lambda it: resolver_of(clients[it]).service("default", "kubernetes"))

    def look() -> Matrix:
        answers = on_each(clients, lambda client: _asked(client, names[client]))
        told = {
            cell: answer for of_client in answers.values() for cell, answer in of_client.items()
        }
        notes = {cell: str(answer["error"] or answer["rcode"]) for cell, answer in told.items()}
        return Matrix({cell: _outcome(answer) for cell, answer in told.items()}, notes)

    def _asked(client: str, name: str) -> dict[Cell, Result]:
        """All questions of one client at once: silence is waited for once."""
        mine = [cell for cell in cells if cell.source == client]
        queries = [
            {
                "name": name,
                "record": RECORD,
                "server": str(servers.all[cell.target]),
                "transport": cell.detail.rpartition(" ")[2],
                "timeout": ANSWER if allowed(cell) else SILENCE,
            }
            for cell in mine
        ]
        answers = clients[client].call("dns", ANSWER + 5, queries=queries)
        return dict(zip(mine, answers, strict=True))

    guests = any(client.guests for client in clients.values())
    return Truth(look, Matrix(expected), guests)


def _outcome(answer: Result) -> Outcome:
    outcome = Outcome(answer["outcome"])
    if outcome is Outcome.REACHED and not answer["values"]:
        return Outcome.WRONG_PEER  # something answered, but not with the name's address
    return outcome
