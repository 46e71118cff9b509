"""All guest nodes of one cluster while it is made: started, told to join, watched, timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from clusters.commands import Progress
from clusters.errors import ClusterError
from clusters.guest import join, machine
from clusters.guest.cable import lengthen_queue
from clusters.guest.machine import Guest
from clusters.guest.plan import GuestPlan, guest_plans
from clusters.images import GuestFiles
from clusters.spec import ClusterSpec
from helpers.kube import Kube
from helpers.waiting import NotSettled, eventually

CABLE_SECONDS: Final = 120.0  # booting takes 10
SHOWN: Final = 12  # lines of the console of a guest that keeps others waiting


@dataclass(frozen=True, slots=True)
class Crew:
    """The guests of a cluster, each with its plan; empty for a profile without any."""

    members: tuple[tuple[GuestPlan, Guest], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.members)

    def lengthen_queues(self) -> None:
        """Let bursts of frames wait for the guests; see ``clusters.guest.cable``.

        Raises:
            ClusterError: it is not possible, or a guest does not open its end of the cable.
        """
        for _, guest in self.members:
            _lengthen(guest)

    def tell(self, kube: Kube, spec: ClusterSpec, docker: tuple[str, ...], network: str) -> None:
        """Tell all how to join; see ``clusters.guest.join.tell``."""
        join.tell(kube, spec, self.members, docker, network)

    def trouble(self) -> str | None:
        """Why waiting for them makes no sense; None when it does."""
        found = [said for _, guest in self.members if (said := guest.trouble())]
        return "\n".join(found) or None

    def consoles(self) -> str:
        """The end of each console, for the message of a wait that took too long."""
        return "".join(
            f"\nconsole of guest node {guest.name}:\n{guest.console(SHOWN)}"
            for _, guest in self.members
        )

    def seconds(self, kube: Kube) -> dict[str, float]:
        """From each guest's start: containerd up, joined, registered, Ready."""
        found = {}
        for _, guest in self.members:
            boot = {line.partition(",")[0]: seconds for seconds, line in guest.said()}
            for words, what in (("containerd is up", "booted"), ("joined", "joined")):
                if words in boot:
                    found[f"{guest.name} {what}"] = boot[words]
            node = kube.get("v1", "Node", guest.name)
            if node is not None:
                found |= {
                    f"{guest.name} {what}": round(at - guest.started, 1)
                    for what, at in node_times(node).items()
                }
        return found


def start(
    spec: ClusterSpec,
    files: GuestFiles | None,
    cluster: str,
    folder: Path,
    docker: tuple[str, ...],
    progress: Progress,
) -> Crew:
    """Start the guests of a profile, if it has any. The cluster's network must be there.

    Raises:
        ClusterError: one could not be started, or there is nothing to make guests of.
    """
    plans = guest_plans(spec, cluster)
    if not plans:
        return Crew()
    if files is None:
        raise ClusterError(
            "These images have no kernel for guest nodes: use images that are built here "
            "(--images build), or leave the guest node out (--without-guest)."
        )
    bridge = join.bridge_of(docker, cluster)
    names = ", ".join(plan.name for plan in plans)
    progress(f"guest: starting {names}")
    return Crew(
        tuple((plan, machine.start(plan, spec, files, cluster, folder, bridge)) for plan in plans)
    )


def _lengthen(guest: Guest) -> None:
    try:
        eventually(
            lambda: guest.trouble() or lengthen_queue(guest.process),
            bool,
            within=CABLE_SECONDS,
            what=f"guest node {guest.name} opens its network cable",
        )
    except NotSettled as late:
        raise ClusterError(f"{late}; its console:\n{guest.console()}") from late


def node_times(node: dict[str, Any]) -> dict[str, float]:
    """When a node registered and became Ready, in Unix time; whole seconds, as the API has them."""
    times = {"registered": _unix(node["metadata"]["creationTimestamp"])}
    for condition in node.get("status", {}).get("conditions") or []:
        if condition["type"] == "Ready" and condition["status"] == "True":
            times["ready"] = _unix(condition["lastTransitionTime"])
    return times


def _unix(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def dead(guests: Sequence[Guest]) -> str | None:
    """A sentence about guests that ended since the cluster was made; None when all live."""
    ended = [guest for guest in guests if not guest.alive]
    if not ended:
        return None
    return "\n".join(
        f"guest node {guest.name} ended {_ago(guest)}; its console's last lines:\n"
        f"{guest.console(SHOWN)}"
        for guest in ended
    )


def _ago(guest: Guest) -> str:
    """About when its console was last written to, which is when it was last heard of."""
    console = guest.folder / machine.CONSOLE
    if not console.exists():
        return "some time ago"
    return f"(its console was last written {time.time() - console.stat().st_mtime:.0f} s ago)"
