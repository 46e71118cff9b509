"""Who creates and destroys clusters: once per run, by whichever worker asks first, under a lock.

An intent is on disk before anything is made, a failure is a record like a success: nobody tries
again. Only the controller (``Run.end``) destroys. What a killed run left is found by the pid and
start time in its record, and removed by the next run or by ``python -m clusters reap``.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from clusters import engine, processes
from clusters.api import Cluster, ClusterProvider
from clusters.commands import Progress, silent
from clusters.errors import ClusterError, UnusableError
from clusters.processes import Identity
from clusters.records import (
    RECORD_FILE,
    Intent,
    RunRecord,
    all_intents,
    all_runs,
    cluster_name,
    clusters_dir,
    new_run_id,
    now,
    read_json,
    run_cluster_name,
    runs_dir,
    tidy,
    write_json,
)
from clusters.spec import ClusterSpec
from helpers.naming import FAULT_JOURNAL, cache_dir, state_dir

MAKER_SECONDS: Final = 5.0  # that a worker gets to end its creation by itself when the run ends
LOGS_KEPT: Final = 5


class Keep(StrEnum):
    """Value of ``--keep-cluster``: when a cluster outlives its run."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


Remover = Callable[[Intent, Progress], None]


def _remove_kind(intent: Intent, progress: Progress) -> None:
    from clusters import kind

    if intent.engine.get("private") and not engine.running():
        return  # a private engine that is stopped has no containers; its start clears its data
    docker, namespace = tuple(intent.engine["docker"]), intent.engine.get("namespace")
    kind.remove(intent.name, docker, progress, namespace=namespace)


def _remove_existing(intent: Intent, progress: Progress) -> None:
    from clusters import existing

    # What we put into somebody's cluster is shared by our runs against it: the last one removes.
    if not any(i.engine == intent.engine and i.name != intent.name for i in all_intents()):
        existing.remove(intent, progress)


removers: dict[str, Remover] = {"kind": _remove_kind, "existing": _remove_existing}


@dataclass(frozen=True, slots=True)
class Run:
    """One run and its clusters, as its controller or as one of its workers."""

    record: RunRecord

    @classmethod
    def begin(cls, argv: Sequence[str]) -> Run:
        """Register a run of this process; ``end`` must follow.

        What the process starts from now on carries the run's mark.
        """
        run_id = new_run_id()
        record = RunRecord(run_id, Identity.own(), tuple(argv), now())
        with engine.transition_lock():  # nobody stops the engine between our look and our use
            record.write()
        os.environ[processes.RUN_VARIABLE] = run_id
        return cls(record)

    @classmethod
    def join(cls, run_id: str) -> Run:
        """The run that a worker belongs to.

        Raises:
            UnusableError: it is over.
        """
        record = RunRecord.read(runs_dir() / run_id)
        if record is None:
            raise UnusableError(f"Run {run_id} is over: its controller has ended.")
        return cls(record)

    @property
    def id(self) -> str:
        return self.record.id

    def cluster_name(self, spec: ClusterSpec) -> str:
        return run_cluster_name(self.id, spec.name)

    def obtain(
        self,
        spec: ClusterSpec,
        provider: ClusterProvider,
        progress: Progress = silent,
        *,
        name: str | None = None,
        keep: Keep = Keep.NEVER,
    ) -> Cluster:
        """The run's cluster; made by the first who asks, the others wait for its record.

        Args:
            keep: whether what a failed creation made stays for inspection.

        Raises:
            UnusableError: it could not be made; the same error for everyone who asks.
        """
        name = name or self.cluster_name(spec)
        folder = clusters_dir() / name
        with FileLock(self.record.folder / f"{name}.lock"):
            found = read_json(folder / RECORD_FILE)
            if found is None:
                found = self._make(name, spec, provider, progress, keep)
        return _opened(found)

    def _make(
        self,
        name: str,
        spec: ClusterSpec,
        provider: ClusterProvider,
        progress: Progress,
        keep: Keep,
    ) -> dict[str, Any]:
        folder = clusters_dir() / name
        interrupted = Intent.read(folder)
        found: dict[str, Any]
        if interrupted is not None:
            found = {"error": _interrupted(interrupted)}
            write_json(folder / RECORD_FILE, found)
            return found
        intent = Intent(name, self.id, provider.kind, provider.engine, Identity.own(), now())
        intent.write()
        try:
            cluster = provider.create(name, spec, folder, progress)
            found = {"cluster": cluster.to_json()}
        except Exception as error:  # whatever it is, every worker must hear of it
            found = {"error": _failure(error, _saved_log(folder, name))}
            if keep is Keep.NEVER:
                _remove_made(intent, progress)
            else:
                intent.keep()
        write_json(folder / RECORD_FILE, found)
        return found

    def end(self, progress: Progress = silent, *, keep: bool = False) -> list[Intent]:
        """Destroy what the run made, or keep it; then leave no trace of the run.

        Only the run's owner calls it. Workers that still make a cluster are ended.

        Returns:
            what was kept.
        """
        mine = [intent for intent in all_intents() if intent.run == self.id]
        kept = []
        for intent in mine:
            self._settle(intent)
            if intent.kept or (keep and _is_cluster(intent)):
                kept.append(intent.keep())
            else:
                _try_to_destroy(intent, progress)
        processes.end_all(_survivors(self.id), grace=2.0)
        with engine.transition_lock():
            shutil.rmtree(self.record.folder, ignore_errors=True)
            _stop_unused_engine(progress)
        os.environ.pop(processes.RUN_VARIABLE, None)
        return kept

    def _settle(self, intent: Intent) -> None:
        """See that nobody is making the cluster any more."""
        if intent.maker.pid == os.getpid():
            return
        try:
            with FileLock(self.record.folder / f"{intent.name}.lock", timeout=MAKER_SECONDS):
                pass
        except Timeout:
            intent.maker.end(grace=1.0)


def _interrupted(intent: Intent) -> str:
    return (
        f"The creation of cluster {intent.name} was interrupted: process {intent.maker.pid}, "
        "which made it, was killed. Run the tests again."
    )


def _opened(found: Mapping[str, Any]) -> Cluster:
    if "error" in found:
        raise UnusableError(str(found["error"]))
    try:
        return Cluster.from_json(found["cluster"])
    except (KeyError, ValueError) as error:
        raise UnusableError(f"The record of the cluster cannot be read: {error}") from error


def reuse(name: str, shared: Path) -> Cluster:
    """A cluster that an earlier run or ``python -m clusters up`` kept.

    Args:
        shared: directory for this run's facts and locks: those of earlier runs may be out of date.

    Raises:
        UnusableError: there is no such cluster, or it was never completed.
    """
    found = read_json(clusters_dir() / cluster_name(name) / RECORD_FILE)
    if found is None:
        known = ", ".join(intent.name for intent in all_intents()) or "none"
        raise UnusableError(
            f"There is no cluster {name} to reuse (known: {known}): make one with "
            f"`python -m clusters up --name {name}`."
        )
    shared.mkdir(parents=True, exist_ok=True)
    return replace(_opened(found), state=shared)


def redeclare(cluster: Cluster, spec: ClusterSpec) -> Cluster:
    """The same cluster, declared to be something else from now on: who reuses it expects that."""
    declared = replace(cluster, spec=spec)
    if cluster.owned:
        file = clusters_dir() / cluster.name / RECORD_FILE
        state = Path((read_json(file) or {}).get("cluster", {}).get("state", cluster.state))
        write_json(file, {"cluster": replace(declared, state=state).to_json()})
    return declared


def down(name: str, progress: Progress = silent) -> bool:
    """Remove a cluster, kept or not; False when there is none of that name.

    Raises:
        ClusterError: its engine refused.
    """
    intent = Intent.read(clusters_dir() / cluster_name(name))
    if intent is None:
        return False
    _destroy(intent, progress)
    with engine.transition_lock():
        _stop_unused_engine(progress)
    return True


def reap(progress: Progress = silent) -> list[str]:
    """Remove what runs left whose controller is dead: clusters, processes, records, the engine.

    Returns:
        names of what was removed.
    """
    removed = []
    alive = {run.id for run in all_runs() if run.alive}
    for intent in all_intents():
        if intent.kept or intent.run in alive:
            removed += _healed(intent, progress)
            continue
        processes.end_all(_survivors(intent.run), grace=2.0)
        if _try_to_destroy(intent, progress):
            removed.append(f"cluster {intent.name}")
    for run in all_runs():
        if not run.alive:
            processes.end_all(_survivors(run.id), grace=2.0)
            shutil.rmtree(run.folder, ignore_errors=True)
            removed.append(f"run {run.id}")
    with engine.transition_lock():
        if _stop_unused_engine(progress):
            removed.append("the private Docker engine")
    return removed


def _healed(intent: Intent, progress: Progress) -> list[str]:
    """Heal what a dead run planted in a cluster that stays."""
    if not (intent.folder / FAULT_JOURNAL).exists():
        return []
    from clusters import faults

    try:
        healed = faults.reap(intent, progress)
    except ClusterError as error:
        progress(f"{intent.name}: {error}")
        return []
    return [healed] if healed else []


def _survivors(run: str) -> list[Identity]:
    return [p for p in processes.with_variable(processes.RUN_VARIABLE, run) if p.alive]


def _destroy(intent: Intent, progress: Progress) -> None:
    _remove_made(intent, progress)
    intent.remove()


def _try_to_destroy(intent: Intent, progress: Progress) -> bool:
    """Destroy at the end of a run, where an error must not keep the rest from being removed."""
    try:
        _destroy(intent, progress)
    except ClusterError as error:
        progress(f"{intent.name} is left, `python -m clusters reap` tries again: {error}")
        return False
    return True


def _remove_made(intent: Intent, progress: Progress) -> None:
    # First whoever may still be making it: the creation of a killed worker goes on without it.
    makers = processes.with_variable(processes.CLUSTER_VARIABLE, intent.name)
    processes.end_all(makers, grace=2.0)
    removers[intent.provider](intent, progress)


def _is_cluster(intent: Intent) -> bool:
    return "cluster" in (read_json(intent.folder / RECORD_FILE) or {})


def _stop_unused_engine(progress: Progress) -> bool:
    """Stop the private engine when no run and no cluster is left. Call with the lock held."""
    if any(run.alive for run in all_runs()):
        return False
    if any(intent.engine.get("private") for intent in all_intents()):
        return False
    stopped = engine.stop(progress)
    tidy()
    _remove_empty_state()
    return stopped


def _remove_empty_state() -> None:
    folder = state_dir()
    left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if left <= {"engine.lock"}:
        shutil.rmtree(folder, ignore_errors=True)  # filelock copes with a lock file that is gone


def _saved_log(folder: Path, name: str) -> Path | None:
    """Copy the log of a failed creation to the cache, where it outlives the run."""
    log = folder / "create.log"
    if not log.exists():
        return None
    target = cache_dir() / "logs" / f"{name}.log"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, target)
    for old in sorted(target.parent.glob("*.log"), key=lambda p: p.stat().st_mtime)[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return target


def _failure(error: Exception, log: Path | None) -> str:
    if isinstance(error, ClusterError):
        text = str(error)
    else:  # not foreseen: say where, so that it can be mended
        frames = traceback.extract_tb(sys.exc_info()[2])[-3:]
        where = " > ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames)
        text = f"{type(error).__name__}: {error} ({where})"
    return f"{text}\nwhole log: {log}" if log else text
