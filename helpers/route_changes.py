"""Changes of routes to blocks of pod addresses, as `ip monitor route` tells them, and their makers.

Source: iproute2 ip-monitor(8); rtnetlink(7): a route's protocol says who programmed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from helpers.calico import BlockAffinity
from helpers.findings import listed
from helpers.model import FAMILIES, Family, IPNetwork
from helpers.once import once
from helpers.parallel import on_each
from helpers.pod_netns import ip
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube

IDLE: Final = 60  # seconds that routes are watched for
MAKERS: Final[Mapping[str, str]] = {"bird": "BIRD", "12": "BIRD", "80": "Felix"}
_STAMP: Final = re.compile(r"\[(?P<at>[^\]]+)\]\s*")
_PREFIX: Final = re.compile(
    r"(?P<gone>Deleted )?(?:(?:blackhole|unicast|unreachable) )?(?P<dst>[0-9a-fA-F.:]+(?:/\d+)?)\s"
)


@dataclass(frozen=True, slots=True)
class Change:
    """One route that came, changed or went."""

    node: str
    at: str
    gone: bool
    block: IPNetwork
    text: str


@dataclass(frozen=True, slots=True)
class Watched:
    """What a minute showed: changes of routes to blocks that were there from the beginning.

    Attributes:
        makers: (node, block) -> protocols of the routes to it.
    """

    changes: tuple[Change, ...]
    makers: Mapping[tuple[str, IPNetwork], tuple[str, ...]]


def parse(node: str, text: str, blocks: Iterable[IPNetwork]) -> list[Change]:
    """Lines of ``ip -ts -o monitor route`` that are about some blocks."""
    wanted = set(blocks)
    found = []
    for line in text.splitlines():
        stamp = _STAMP.match(line)
        rest = line[stamp.end() :] if stamp else line
        told = _PREFIX.match(rest + " ")
        if told is None:
            continue  # `default`, `local`, `multicast` and the like are no block
        block = ip_network(told["dst"])
        if block in wanted:
            at = stamp["at"] if stamp else ""
            found.append(Change(node, at, bool(told["gone"]), block, rest.strip()))
    return found


def watch(state: Path, kube: Kube, agents: AgentPool) -> Watched:
    """Watch the routes of all nodes for a minute; once per run, both families together."""
    raw = once(state, "route-changes", lambda: _watch(kube, agents))
    blocks = [ip_network(block) for block in raw["blocks"]]
    return Watched(
        changes=tuple(c for node, text in raw["text"].items() for c in parse(node, text, blocks)),
        makers={
            (node, ip_network(block)): tuple(protocols) for node, block, protocols in raw["makers"]
        },
    )


def _watch(kube: Kube, agents: AgentPool) -> dict[str, Any]:
    affinities = [BlockAffinity.from_api(item) for item in kube.calico("BlockAffinity")]
    blocks = sorted({str(affinity.cidr) for affinity in affinities})
    texts = on_each(agents.nodes, lambda node: _monitor(agents.nodes[node]))
    makers = on_each(agents.nodes, lambda node: _makers(agents.nodes[node], blocks))
    return {
        "blocks": blocks,
        "text": texts,
        "makers": [(n, block, found) for n, of in makers.items() for block, found in of.items()],
    }


def _monitor(agent: Agent) -> str:
    argv = ["timeout", str(IDLE), "ip", "-ts", "-o", "monitor", "route"]
    done = agent.call_one("run", IDLE + 20, argv=argv, timeout=IDLE + 10)
    ended_by_timeout = 124
    if done["rc"] != ended_by_timeout:
        raise Inconclusive(f"{agent.name}: ip monitor ended by itself: {done['stderr'].strip()}")
    return str(done["stdout"])


def _makers(agent: Agent, blocks: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for family in FAMILIES:
        for route in ip(agent, f"-{family.version}", "route", "show"):
            if route["dst"] in blocks:
                found.setdefault(route["dst"], []).append(str(route.get("protocol", "none")))
    return found


# -- judgements -----------------------------------------------------------------------------------


def flap_findings(watched: Watched, family: Family) -> list[str]:
    """RTE-005: in a minute of idleness no route to a block came, changed or went."""
    by_block: dict[tuple[str, IPNetwork], list[Change]] = {}
    for change in watched.changes:
        if Family.of(change.block) is family:
            by_block.setdefault((change.node, change.block), []).append(change)
    return [
        f"{node}: the route to block {block} changed {len(changes)} times in {IDLE} s of idleness, "
        f"first `{changes[0].text}`: two programs write it (compare programClusterRoutes of "
        "FelixConfiguration and BGPConfiguration), or a BGP session flaps"
        for (node, block), changes in by_block.items()
    ]


def maker_findings(watched: Watched, family: Family) -> list[str]:
    """RTE-005: one program made all routes to a block."""
    return [
        f"{node}: block {block} has {len(protocols)} routes, by "
        f"{listed(MAKERS.get(each, each) for each in protocols)}: one program must make it "
        "(programClusterRoutes of FelixConfiguration and BGPConfiguration)"
        for (node, block), protocols in watched.makers.items()
        if Family.of(block) is family and len(protocols) != 1
    ]
