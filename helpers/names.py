"""Names as pods resolve them: whom a pod asks, what it is to be told, and what it was told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from helpers import probes
from helpers.agents.client import Agent
from helpers.findings import listed
from helpers.model import IPAddress, Protocol
from helpers.parallel import on_each
from helpers.probes import DnsAnswer, Outcome
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, eventually

RESOLV_CONF: Final = "/etc/resolv.conf"
# CoreDNS may keep an answer for its zone's TTL, 30 s in kubeadm's Corefile before 1.31; the
# questions of a test are new, so that only an answer asked for too early is ever kept.
ANSWERED_WITHIN: Final = 35.0


@dataclass(frozen=True, slots=True)
class Resolver:
    """A pod's resolv.conf: the servers it asks and the cluster's domain."""

    servers: tuple[IPAddress, ...]
    search: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Resolver:
        """Read resolv.conf(5)."""
        servers: list[IPAddress] = []
        search: tuple[str, ...] = ()
        for line in text.splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "nameserver":
                servers.append(ip_address(rest.strip().split("%")[0]))
            elif word == "search":
                search = tuple(rest.split())
        return cls(tuple(servers), search)

    @property
    def domain(self) -> str:
        """The cluster's domain, from the search entry ``svc.DOMAIN``.

        Raises:
            Inconclusive: the pod does not search the cluster's domain.
        """
        for entry in self.search:
            if entry.startswith("svc."):
                return entry.removeprefix("svc.").rstrip(".")
        raise Inconclusive(f"no entry svc.DOMAIN in the pod's search list: {listed(self.search)}")

    def service(self, namespace: str, name: str) -> str:
        return f"{name}.{namespace}.svc.{self.domain}."


def resolver_of(agent: Agent) -> Resolver:
    """What the agent's pod was given by kubelet.

    Raises:
        Inconclusive: it has no resolv.conf or no server in it.
    """
    (found,) = agent.call("read_file", path=RESOLV_CONF)
    if found["text"] is None:
        raise Inconclusive(f"{agent.name}: {found['error']}")
    resolver = Resolver.parse(found["text"])
    if not resolver.servers:
        raise Inconclusive(f"{agent.name}: {RESOLV_CONF} names no server")
    return resolver


@dataclass(frozen=True, slots=True)
class Question:
    """One question of one client to its server."""

    client: str
    name: str
    record: str
    transport: Protocol = Protocol.UDP

    def __str__(self) -> str:
        return f"{self.record} {self.name} (over {self.transport}, from {self.client})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: its code and the records, in no order.

    NODATA is NOERROR without records (RFC 2308).
    """

    code: str
    records: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if self.code == "NOERROR":
            return listed(sorted(self.records)) if self.records else "NODATA"
        return self.code

    @classmethod
    def of(cls, answer: DnsAnswer) -> Answer:
        """From a probe.

        Raises:
            Inconclusive: the question was not asked.
        """
        if answer.outcome is Outcome.INCONCLUSIVE:
            raise Inconclusive(f"{answer.record} {answer.name} was not asked: {answer.error}")
        if answer.outcome is not Outcome.REACHED:
            return cls(f"no answer ({answer.outcome}: {answer.error})")
        values = answer.values or tuple(map(str, answer.addresses))
        return cls(str(answer.rcode), frozenset(map(_canonical, values)))


def _canonical(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        return value.lower()


def holding(records: Iterable[object]) -> Answer:
    """NOERROR with exactly these records."""
    return Answer("NOERROR", frozenset(_canonical(str(record)) for record in records))


NODATA: Final = Answer("NOERROR")


def ask(clients: Mapping[str, Agent], questions: Iterable[Question]) -> dict[Question, Answer]:
    """Ask the questions, each once, clients in parallel; each asks its own pod's first server.

    Raises:
        Inconclusive: an agent was lost.
    """
    groups: dict[tuple[str, str, Protocol], list[Question]] = {}
    for question in questions:
        key = (question.client, question.record, question.transport)
        groups.setdefault(key, []).append(question)
    servers = {name: resolver_of(clients[name]).servers[0] for name, _, _ in groups}

    def of_group(key: tuple[str, str, Protocol]) -> list[Answer]:
        client, record, transport = key
        names = [question.name for question in groups[key]]
        answers = probes.dns(clients[client], names, record, servers[client], transport)
        return [Answer.of(answer) for answer in answers]

    with ThreadPoolExecutor(max(1, len(clients))) as pool:
        told = dict(zip(groups, pool.map(of_group, groups), strict=True))
    return {q: a for key, asked in groups.items() for q, a in zip(asked, told[key], strict=True)}


def name_findings(wanted: Mapping[Question, Answer], seen: Mapping[Question, Answer]) -> list[str]:
    """SVC-005, SVC-017, EGR-009: questions whose answer is not the one promised."""
    found = []
    for question, answer in wanted.items():
        told = seen.get(question, Answer("not asked"))
        if told == answer:
            continue
        why = ""
        if told.code == "NXDOMAIN" and answer == NODATA:
            why = ": the name exists in the other family, so resolvers may give up on it altogether"
        elif told.code == "NXDOMAIN":
            why = f": {question.record} is suppressed or the name unknown, look at the Corefile"
        elif told.code.startswith("no answer"):
            why = ": is the cluster's DNS Service reachable from there?"
        found.append(f"{question} is answered {told}, expected {answer}{why}")
    return found


def answers_become(
    clients: Mapping[str, Agent], wanted: Mapping[Question, Answer], within: float
) -> dict[Question, Answer]:
    """Ask until all answers are as wanted; the last answers in any case.

    A new Service is known to the server a moment later than to the API. What the last answers
    say is for ``name_findings`` to tell.

    Raises:
        Inconclusive: an agent was lost.
    """
    last: dict[Question, Answer] = {}

    def look() -> dict[Question, Answer]:
        last.update(ask(clients, wanted))
        return dict(last)

    with contextlib.suppress(NotSettled):
        eventually(
            look,
            lambda seen: seen == wanted,
            within=within,
            what="names resolve",
            describe=lambda seen: f"{len(name_findings(wanted, seen))} of {len(wanted)} wrong",
        )
    return last


def application_findings(clients: Mapping[str, Agent], name: str, address: IPAddress) -> list[str]:
    """EGR-009: what applications get from getaddrinfo must hold the address too."""
    told = on_each(clients, lambda client: clients[client].call_one("getaddrinfo", host=name))
    return [
        f"getaddrinfo({name}) in the {client} gives {listed(result['addresses'])}"
        f"{' (' + result['error'] + ')' if result['error'] else ''}, without {address}"
        for client, result in told.items()
        if str(address) not in result["addresses"]
    ]
