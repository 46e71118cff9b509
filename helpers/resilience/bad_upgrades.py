"""Upgrades that must not ship: each spoils one thing, and the gate must say no and name it.

What they do is part of the upgrade: the documents that are applied, or something that happens
beside them. They are for clusters that are thrown away afterwards, so nothing is healed but what
would outlast its own time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from helpers import bird
from helpers.calico_config import CALICO_NODE
from helpers.model import Family
from helpers.own_pools import POOL
from helpers.verdicts import Inconclusive
from helpers.waiting import consistently

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube

BLOCKED_FOR: Final = 20.0  # seconds
BGP_DROP: Final = """table ip6 dsbad {
  chain in { type filter hook input priority -10; tcp dport 179 drop; tcp sport 179 drop; }
  chain out { type filter hook output priority -10; tcp dport 179 drop; tcp sport 179 drop; }
}
"""
# Sessions end at once: alone the lack of packets would be noticed after the hold time, 240 s.
RESTART: Final = 'restart "Mesh_*"'
Documents = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class BadUpgrade:
    """One way to spoil an upgrade.

    Attributes:
        change: of the documents, given the name of the last worker.
        beside: done once the documents are applied.
    """

    title: str
    change: Callable[[Documents, str], None] = lambda _documents, _node: None
    beside: Callable[[Kube, AgentPool], None] = lambda _kube, _agents: None


def _container(documents: Documents) -> dict[str, Any]:
    (node,) = [
        d for d in documents if d["kind"] == "DaemonSet" and d["metadata"]["name"] == CALICO_NODE
    ]
    containers = node["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = next(c for c in containers if c["name"] == CALICO_NODE)
    return found


def set_variable(documents: Documents, name: str, value: str) -> None:
    """Set a variable of calico-node, whether or not it is there."""
    container = _container(documents)
    rest = [entry for entry in container["env"] if entry["name"] != name]
    container["env"] = [*rest, {"name": name, "value": value}]


def _without_ipv6(documents: Documents, _: str) -> None:
    set_variable(documents, "FELIX_IPV6SUPPORT", "false")


def _crashing(documents: Documents, node: str) -> None:
    """One node only, as an image does that a node has not, or that its kernel does not run."""
    script = f'[ "$NODENAME" != {node} ] || {{ echo spoilt; exit 1; }}; exec start_runit'
    _container(documents)["command"] = ["sh", "-c", script]


def _no_default_pools(documents: Documents, _: str) -> None:
    """Or calico-node would make the pool again when it starts."""
    set_variable(documents, "NO_DEFAULT_POOLS", "true")


def _delete_pools(kube: Kube, _: AgentPool) -> None:
    for pool in kube.calico("IPPool"):
        if Family.of(pool["spec"]["cidr"]) is Family.IPV6:
            kube.delete(*POOL, pool["metadata"]["name"])


def _block_bgp(_: Kube, agents: AgentPool) -> None:
    """For a while, beside the roll that goes on.

    Raises:
        Inconclusive: the node refuses the rules: nothing would be spoilt.
    """
    agent = agents.nodes[list(agents.nodes)[-1]]
    done = agent.call_one("run", argv=["nft", BGP_DROP])
    if done["rc"] != 0:
        raise Inconclusive(f"BGP over IPv6 cannot be cut on {agent.node}: {done['stderr']}")
    agent.call_one("bird", socket=bird.SOCKETS[Family.IPV6], command=RESTART)
    threading.Thread(target=_lift, args=[agent], daemon=True).start()


def _lift(agent: Agent) -> None:
    consistently(lambda: "BGP over IPv6 is cut", bool, during=BLOCKED_FOR, every=BLOCKED_FOR,
                 what="BGP over IPv6 is cut")  # fmt: skip
    agent.call_one("run", argv=["nft", "delete", "table", "ip6", "dsbad"])


KNOWN: Final[Mapping[str, BadUpgrade]] = {
    "bgp": BadUpgrade("BGP over IPv6 is cut for 20 s on one node", beside=_block_bgp),
    "crash": BadUpgrade("calico-node ends at once on one node", change=_crashing),
    "felix": BadUpgrade("Felix runs without IPv6 afterwards", change=_without_ipv6),
    "pool": BadUpgrade("the IPv6 pools are gone", change=_no_default_pools, beside=_delete_pools),
}
