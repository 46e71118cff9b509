"""What the nodes announce to a BGP peer outside of the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helpers.calico import BlockAffinity
from helpers.findings import listed
from helpers.model import Family, IPAddress, IPNetwork
from helpers.naming import MANAGED_BY, PREFIX
from helpers.policy.objects import CALICO
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.kube import Kube, Object

SCRIPT: Final = Path(__file__).with_name("bgp_listener.py")
DEFAULT_AS: Final = 64512  # Calico's, where BGPConfiguration names none
ROUTER_ID: Final = "192.0.2.250"
LISTENED_FOR: Final = 45.0  # seconds; BIRD connects within a few and tries again every 5 or so


@dataclass(frozen=True, slots=True)
class Announced:
    """What one node told the peer; ``error`` when the session ended before it had told all."""

    node: str
    prefixes: tuple[IPNetwork, ...]
    complete: bool
    error: str | None = None


@contextmanager
def peering(kube: Kube, own_as: int, addresses: Iterable[IPAddress]) -> Iterator[None]:
    """Every node has BGP sessions to these addresses while the block runs."""
    peers = [_peer(address, own_as) for address in addresses]
    try:
        kube.apply(peers)
        yield
    finally:
        for each in peers:
            kube.delete(CALICO, "BGPPeer", each["metadata"]["name"])


def _peer(address: IPAddress, own_as: int) -> Object:
    return {
        "apiVersion": CALICO,
        "kind": "BGPPeer",
        "metadata": {
            "name": f"{PREFIX}-outside-{Family.of(address)}",
            "labels": dict(MANAGED_BY),
        },
        "spec": {"peerIP": str(address), "asNumber": own_as},
    }


def cluster_as(kube: Kube) -> int:
    """AS number of the nodes' mesh."""
    for item in kube.calico("BGPConfiguration"):
        if item["metadata"]["name"] == "default" and item["spec"].get("asNumber"):
            return int(item["spec"]["asNumber"])
    return DEFAULT_AS


def listen(outside: Agent, own_as: int, nodes: Mapping[IPAddress, str]) -> list[Announced]:
    """Be the nodes' BGP peer until each has told all it has, over every address of theirs.

    Args:
        nodes: address that a node speaks from -> its name.

    Raises:
        Inconclusive: the speaker did not run.
    """
    argv = ["python3", "-c", SCRIPT.read_text(), str(own_as), ROUTER_ID, str(LISTENED_FOR)]
    argv.append(str(len(nodes)))
    done = outside.call_one("run", LISTENED_FOR + 20, argv=argv, timeout=LISTENED_FOR + 10)
    if done["rc"] != 0:
        raise Inconclusive(f"{outside.name}: the BGP speaker failed: {done['stderr'][-300:]}")
    told: dict[str, Any] = json.loads(done["stdout"])
    found = []
    for address, node in nodes.items():
        said = told.get(str(address), {"prefixes": [], "done": False, "error": "no session"})
        networks = tuple(ip_network(prefix) for prefix in said["prefixes"])
        found.append(Announced(node, networks, bool(said["done"]), said["error"]))
    return found


def announcement_findings(
    announced: Sequence[Announced],
    affinities: Sequence[BlockAffinity],
    services: Sequence[IPNetwork],
    family: Family,
) -> list[str]:
    """RTE-004: a node announces its own blocks and configured Service ranges, nothing else.

    Source: Calico confd templates bird_ipam.cfg, bird6_ipam.cfg, bird_aggr.cfg.
    """
    blocks = {a.cidr: a.node for a in affinities}
    found = []
    for one in announced:
        own = {cidr for cidr, node in blocks.items() if node == one.node}
        mine = {prefix for prefix in one.prefixes if Family.of(prefix) is family}
        strange = sorted(mine - own - set(services), key=str)
        if strange:
            found.append(
                f"{one.node} announces {listed(strange)} to a peer outside, which is neither a "
                "block of its pods nor a configured Service range: look for kernel routes of other "
                "makers in a pool's range (BIRD learns them), for BGPFilters, and for addresses "
                "of kube-ipvs0"
            )
        missing = sorted({b for b in own if Family.of(b) is family} - mine, key=str)
        if missing and one.complete:
            found.append(f"{one.node} does not announce its blocks {listed(missing)}")
    return found


def require_told(announced: Sequence[Announced], family: Family) -> None:
    """Who did not tell everything cannot be judged.

    Raises:
        Inconclusive: naming the nodes.
    """
    silent = [f"{one.node} ({one.error})" for one in announced if not one.complete]
    if silent:
        raise Inconclusive(f"no complete BGP session over {family.kubernetes}: {listed(silent)}")
