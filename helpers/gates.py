"""Gates: facts that make requirements decidable.

A gate is observed once per run with the same probe that its own requirement uses, so that
"blocked by CFG-009" means what CFG-009's test would say. Catalogue section 1: G1 = PODIP-002,
G2 = CFG-009 for a node pair.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from helpers import probes
from helpers.model import Family, IPAddress, Protocol
from helpers.once import once
from helpers.verdicts import Blocked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

KUBELET_PORT = 10250
NodePair = tuple[str, str]


def pod_address(agent: Agent, family: Family) -> IPAddress:
    """The agent's address in a family (gate G1).

    Raises:
        Blocked: the pod has no address of that family.
    """
    address = agent.addresses.of(family)
    if address is None:
        raise Blocked("PODIP-002", f"pod {agent.name} has no {family} address", family)
    return address


def node_pair_observations(
    agents: AgentPool, family: Family
) -> dict[tuple[str, str, Protocol], probes.Observation]:
    """Probe every ordered node pair on the nodes' own addresses: ICMP and TCP to the kubelet.

    Nodes without an address of the family are left out; CFG-005 judges those.
    """
    targets = {
        name: agent.addresses.of(family)
        for name, agent in agents.nodes.items()
        if agent.addresses.of(family) is not None
    }
    wanted: dict[Agent, list[probes.Probe]] = {}
    keys: dict[Agent, list[tuple[str, str, Protocol]]] = {}
    for source in targets:
        agent = agents.nodes[source]
        for target, address in targets.items():
            if target == source or address is None:
                continue
            wanted.setdefault(agent, []).extend(
                [
                    probes.Probe(Protocol.ICMP, address, None),
                    probes.Probe(Protocol.TCP, address, KUBELET_PORT, connect_only=True),
                ]
            )
            keys.setdefault(agent, []).extend(
                [(source, target, Protocol.ICMP), (source, target, Protocol.TCP)]
            )
    found = probes.run_all(wanted)
    return {
        key: observation
        for agent, observations in found.items()
        for key, observation in zip(keys[agent], observations, strict=True)
    }


def blocked_node_pairs(state: Path, agents: AgentPool, family: Family) -> frozenset[NodePair]:
    """Ordered node pairs that do not reach each other in a family (gate G2), once per run."""

    def compute() -> list[NodePair]:
        found = node_pair_observations(agents, family)
        # A first packet may meet an empty neighbour cache on a busy machine: ask the failed again.
        if any(o.outcome is not probes.Outcome.REACHED for o in found.values()):
            found = node_pair_observations(agents, family)
        return sorted(
            {
                (source, target)
                for (source, target, _), observation in found.items()
                if observation.outcome is not probes.Outcome.REACHED
            }
        )

    pairs = once(state, f"gate-cfg-009-{family}", compute)
    return frozenset((source, target) for source, target in pairs)


def require_node_pairs(
    state: Path, agents: AgentPool, family: Family, pairs: Iterable[NodePair] | None = None
) -> None:
    """Refuse to judge pod paths over node pairs that are themselves broken (gate G2).

    Raises:
        Blocked: by CFG-009, naming the pairs.
    """
    down = blocked_node_pairs(state, agents, family)
    wanted = down if pairs is None else down & frozenset(pairs)
    if wanted:
        named = ", ".join(f"{source} -> {target}" for source, target in sorted(wanted))
        raise Blocked("CFG-009", f"nodes do not reach each other over {family}: {named}", family)
