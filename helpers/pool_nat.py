"""Pods of a test's own pool, and whom their targets see: the pod or its node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from helpers.egress import Departure, departure
from helpers.findings import demand_none, listed
from helpers.model import Family, IPAddress
from helpers.off_cluster import host_route
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, consistently, eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.own_pools import OwnPool
    from helpers.workloads import Workloads

PODS: Final = 2
PROGRAMMED_WITHIN: Final = 20.0  # seconds; Felix needs about one
HELD_FOR: Final = 1.5  # seconds


class Hidden(StrEnum):
    """What a target is to see."""

    BEHIND_NODE = "an address of its node"
    NOT = "the pod's own address"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one target saw of one pod, and what it was to see."""

    departure: Departure
    target: IPAddress
    wanted: Hidden

    @classmethod
    def of(
        cls,
        pod: Agent,
        agents: AgentPool,
        facts: Facts,
        receiver: Agent,
        target: IPAddress,
        wanted: Hidden,
    ) -> Seen:
        """Let the pod send to one address of a receiver."""
        name = str(pod.node)
        internal = next(n.internal_ips.of(Family.of(target)) for n in facts.nodes if n.name == name)
        return cls(departure(pod, agents.nodes[name], internal, receiver, target), target, wanted)

    @property
    def finding(self) -> str | None:
        """What is wrong, as a sentence."""
        one = self.departure
        own = self.wanted is Hidden.NOT
        allowed = frozenset([one.address] if own else one.node_addresses)
        where = f"pod {one.pod} ({one.address}) on {one.node} calls {self.target}"
        if not one.seen:
            return f"{where}: nothing arrives"
        if not one.seen <= allowed:
            return (
                f"{where}, which saw {listed(sorted(one.seen - allowed))} instead of "
                f"{self.wanted} ({listed(sorted(allowed))}): compare natOutgoing of the pods' pool "
                "and the pools that hold the target with Felix's chain cali-nat-outgoing and its "
                "sets masq-ipam-pools and all-ipam-pools on that node; Felix programs IPv6 only "
                "with FELIX_IPV6SUPPORT"
            )
        if not one.answered:
            return f"{where}, which saw {listed(one.seen)}, but the answer does not reach the pod"
        return None


def demand_seen(look: Callable[[], Sequence[Seen]], what: str) -> None:
    """Wait until every target sees what it is to see, and demand that it stays so.

    Raises:
        AssertionError: it is not in time, or changes; with what is wrong.
        Inconclusive: an agent could not send.
    """

    def findings() -> list[str]:
        return [finding for seen in look() if (finding := seen.finding)]

    try:
        eventually(findings, _none, within=PROGRAMMED_WITHIN, describe=_first, what=what)
        consistently(findings, _none, during=HELD_FOR, describe=_first, what=what)
    except NotSettled as late:
        if isinstance(late.last, list):
            demand_none(late.last)
        raise


def _none(found: list[str]) -> bool:
    return not found


def _first(found: list[str]) -> str:
    return f"{len(found)} wrong, e.g. {found[0]}" if found else "as it should be"


@contextmanager
def pods_of_pool(workloads: Workloads, facts: Facts, pool: OwnPool) -> Iterator[list[Agent]]:
    """Pods on different nodes with addresses of the pool; gone when the block ends.

    Raises:
        Blocked: by PODIP-002, when one gets no address.
        Inconclusive: its address is not of the pool.
    """
    family = Family.of(pool.cidr)
    nodes = [node.name for node in facts.nodes if not node.control_plane][:PODS]
    views = workloads.pods(
        nodes or [facts.nodes[0].name], families=[family], annotations=pool.annotation
    )
    try:
        strange = [view.label for view in views if view.address(family) not in pool.cidr]
        if strange:
            raise Inconclusive(f"{listed(strange)}: no address of {pool.cidr}, see PODIP-012")
        yield [workloads.agent(view) for view in views]
    finally:
        for view in views:
            workloads.delete_pod(view.name, grace_seconds=0)


@contextmanager
def ways_back(
    outside: Agent, agents: AgentPool, pods: Sequence[Agent], family: Family
) -> Iterator[None]:
    """Routes from the outside to the pods, via their nodes, while the block runs."""
    with ExitStack() as stack:
        for pod in pods:
            via = agents.nodes[str(pod.node)].addresses.require(family)
            stack.enter_context(host_route(outside, pod.addresses.require(family), via))
        yield
