"""What makes every calico-node restart: an order to, another release, or somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clusters import upgrade
from clusters.errors import ClusterError
from helpers.calico_config import CALICO_NODE
from helpers.findings import listed
from helpers.resilience import disturb
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from clusters.api import Cluster
    from clusters.spec import Version
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube
    from helpers.resilience.bad_upgrades import BadUpgrade

WATCH_EVERY: Final = 0.5  # seconds between two looks whether watching is to end


@dataclass(frozen=True, slots=True)
class Roll:
    """One way to have calico-node roll.

    Attributes:
        title: of the timeline.
        begin: returns when the roll has begun; what is waited for is the same for all.
        names: states before and after, as an operator calls them.
        tag: that calico-node's image has afterwards; None: as before.
        ours: it makes pods of calico-node go; a roll in which none went was none.
    """

    title: str
    begin: Callable[[Kube], None]
    names: tuple[str, str] = ("before", "after")
    tag: str | None = None
    ours: bool = True


def restart() -> Roll:
    """Every calico-node restarts as it is."""

    def begin(kube: Kube) -> None:
        disturb.restart(kube, [disturb.calico_set(kube)])

    return Roll("Rolling restart of calico-node", begin)


def release(cluster: Cluster, version: Version, agents: AgentPool, bad: BadUpgrade | None) -> Roll:
    """Another release, by upstream's manifest through the renderer that made the cluster.

    Args:
        bad: what is wrong with it.

    Raises:
        Inconclusive: it cannot be applied; the message says why.
    """
    node = list(agents.nodes)[-1]

    def change(documents: list[dict[str, Any]]) -> None:
        if bad is not None:
            bad.change(documents, node)

    try:
        ready = upgrade.prepared(cluster, version, change)
    except (ClusterError, ValueError) as error:
        raise Inconclusive(f"Calico {version} cannot be applied: {error}") from error

    def begin(kube: Kube) -> None:
        ready.apply(kube)
        if bad is not None:
            bad.beside(kube, agents)

    if ready.old == ready.new:
        raise Inconclusive(f"the cluster runs Calico {version} already: nothing would roll")
    title = f"{ready}" if bad is None else f"{ready}, spoilt: {bad.title}"
    return Roll(title, begin, (f"v{ready.old}", f"v{ready.new}"), f"v{ready.new}")


def watched(seconds: float, stop: Path | None) -> Roll:
    """Nothing is done: somebody else upgrades meanwhile.

    Args:
        seconds: how long is watched.
        stop: watching ends early when there is such a file.
    """

    def begin(_: Kube) -> None:
        try:
            eventually(
                lambda: stop is not None and stop.exists(),
                bool,
                within=seconds,
                every=WATCH_EVERY,
                what="watching is ended",
            )
        except NotSettled:
            return  # the time is over

    return Roll("Watching while others change the cluster", begin, ours=False)


def require_rolled(roll: Roll, before: Iterable[str], after: Iterable[str]) -> None:
    """A roll in which every pod stayed proves nothing about rolls.

    Args:
        before: names of calico-node's pods.

    Raises:
        Inconclusive: not one of them is gone.
    """
    if roll.ours and set(before) <= set(after):
        raise Inconclusive(f"{roll.title}: no calico-node was replaced, so nothing rolled")


def release_findings(pods: Iterable[Mapping[str, Any]], tag: str) -> list[str]:
    """Pods of calico-node that do not run a release."""
    found = []
    for pod in pods:
        images = {c["name"]: str(c["image"]) for c in pod["spec"]["containers"]}
        image = images.get(CALICO_NODE, "no image")
        if image.rpartition(":")[2] != tag:
            found.append(f"{pod['metadata']['name']} on {pod['spec'].get('nodeName')}: {image}")
    if not found:
        return []
    return [f"calico-node does not run {tag} everywhere after the upgrade: {listed(sorted(found))}"]
