"""What a killed run left planted in a cluster: found by its journal, healed by the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clusters import engine, netns
from clusters.api import Cluster
from clusters.commands import Progress
from clusters.errors import UnusableError
from clusters.processes import Identity
from clusters.records import RECORD_FILE, Intent, read_json
from helpers.faults import catalogue  # noqa: F401  # knows every kind of change
from helpers.faults.bench import Bench, FaultError
from helpers.faults.planting import Journal, heal
from helpers.kube import Kube, KubeError

# Set for the children of the run that planted: they are meant to see the fault.
FAULT_VARIABLE: Final = "DSC_FAULT"
HEAL_SECONDS: Final = 120.0


def planted_by_dead(folder: Path) -> Journal | None:
    """The journal of a cluster whose fault was planted by a process that is gone."""
    journal = Journal.read(folder)
    if journal is None or Identity.from_json(dict(journal.owner)).alive:
        return None
    return journal


def check(cluster: Cluster, folder: Path, expected: str | None, progress: Progress) -> None:
    """See that nothing is planted in a cluster that is about to be used, but what is expected.

    Raises:
        UnusableError: a living run has planted a fault, or what a dead one left does not heal.
    """
    journal = Journal.read(folder)
    if journal is None:
        return
    if planted_by_dead(folder) is None:
        if journal.fault != expected:
            raise UnusableError(
                f"Fault {journal.fault} is planted in cluster {cluster.name} by process "
                f"{journal.owner['pid']}: verdicts would be about the fault. Wait for that run."
            )
        return
    heal_left(cluster, journal, progress)


def heal_left(cluster: Cluster, journal: Journal, progress: Progress) -> None:
    """Heal what a dead run left.

    Raises:
        UnusableError: it does not heal; the message names what resists.
    """
    progress(f"healing fault {journal.fault}, which a dead run left in {cluster.name}")
    try:
        bench = Bench(cluster, Kube(cluster.kubeconfig, cluster.context))
        heal(bench, journal, within=HEAL_SECONDS, tell=progress)
    except (FaultError, KubeError) as error:
        raise UnusableError(
            f"{error}. Or remove the cluster: `python -m clusters down {cluster.name}`."
        ) from error


def reap(intent: Intent, progress: Progress) -> str | None:
    """Heal what a dead run left in a cluster that stays; what was healed, None for nothing.

    Raises:
        UnusableError: it does not heal.
    """
    journal = planted_by_dead(intent.folder)
    found = read_json(intent.folder / RECORD_FILE) or {}
    if journal is None or "cluster" not in found:
        return None
    with _near(intent):
        heal_left(Cluster.from_json(found["cluster"]), journal, progress)
    return f"fault {journal.fault} in {intent.name}"


@contextmanager
def _near(intent: Intent) -> Iterator[None]:
    """Be where the cluster is reached: in the network namespace of its engine."""
    namespace = intent.engine.get("namespace")
    if not namespace or not engine.running():
        yield
        return
    path = netns.handle(str(namespace))
    if netns.inside(path):
        yield
        return
    with netns.visiting(path):
        yield
