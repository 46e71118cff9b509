"""Clients outside of the cluster that use a clusterIP through a node, and what backends see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from helpers.agents.client import Agent
from helpers.findings import listed
from helpers.model import Family, IPAddress, IPNetwork
from helpers.plan import Answered
from helpers.probes import Outcome
from helpers.verdicts import Inconclusive


@contextmanager
def host_route(agent: Agent, target: IPAddress, via: IPAddress) -> Iterator[None]:
    """While the block runs, the agent's host sends what is for ``target`` to ``via``.

    Raises:
        Inconclusive: the host refuses the route.
    """
    prefix = f"{target}/{target.max_prefixlen}"
    _ip(agent, "route", "add", prefix, "via", str(via), family=Family.of(target))
    try:
        yield
    finally:
        _ip(agent, "route", "del", prefix, "via", str(via), family=Family.of(target))


def _ip(agent: Agent, *words: str, family: Family) -> None:
    argv = ["ip", f"-{family.version}", *words]
    result = agent.call_one("run", argv=argv)
    if result["rc"] != 0:
        raise Inconclusive(f"{agent.name}: `{' '.join(argv)}` failed: {result['stderr'].strip()}")


def masquerade_findings(
    node: str,
    seen: Mapping[str, Iterable[IPAddress | str]],
    *,
    node_addresses: Sequence[IPAddress],
    client: IPAddress,
    cluster_cidr: str,
) -> list[str]:
    """PRX-005, off-cluster clients: the backend must see the node that they came through.

    Without that the backend's answer goes straight to the client, which knows only the clusterIP
    and drops it, unless the backend is on that very node.

    Args:
        node: the node that the client's route leads to.
        seen: see ``sources_seen``.
    """
    found = []
    for kind, sources in seen.items():
        strange = sorted(map(str, set(sources) - set(node_addresses)))
        if strange:
            found.append(
                f"{kind} from outside ({client}) to the clusterIP via {node}: backends saw "
                f"{listed(strange)}, expected an address of {node} ({node_addresses[0]}): "
                f"kube-proxy does not masquerade off-cluster {Family.of(client).kubernetes} "
                f"clients; its clusterCIDR is {cluster_cidr} (one range of each family is needed, "
                "flag --cluster-cidr)"
            )
    return found


def sources_seen(answered: Iterable[Answered]) -> dict[str, set[IPAddress | str]]:
    """Sources that backends saw, by kind of request; the outcome where none answered.

    Raises:
        Inconclusive: a probe did not run.
    """
    seen: dict[str, set[IPAddress | str]] = {}
    for cell, observation in answered:
        if observation.outcome is Outcome.INCONCLUSIVE:
            raise Inconclusive(f"{cell}: {observation.error}")
        source = observation.peer_seen if observation.reached else None
        seen.setdefault(cell.detail, set()).add(source or f"nothing ({observation.outcome})")
    return seen


def preserved_findings(
    answered: Iterable[Answered], own: Mapping[str, IPAddress], pod_ranges: Sequence[IPNetwork]
) -> list[str]:
    """PRX-005, pods: the backend must see the pod itself.

    Args:
        own: client -> its address.
        pod_ranges: pod CIDRs of the cluster.
    """
    strange = {
        (cell.detail, cell.source, observation.peer_seen)
        for cell, observation in answered
        if observation.reached and observation.peer_seen != own[cell.source]
    }
    return [
        f"{kind} from the {client} ({own[client]}) to the clusterIP: the backend saw {source}: "
        "kube-proxy takes the pod for a stranger, or something else masquerades; pod CIDRs are "
        f"{listed(pod_ranges)}"
        for kind, client, source in sorted(strange, key=str)
    ]
