"""The clusters' side of one pytest session: what the options want, and how it is had."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import ReadWriteLock

from clusters import calico, engine, existing, faults, lifecycle, netns, options, records, registry
from clusters.api import Cluster, ClusterProvider
from clusters.engine import Engine
from clusters.errors import ClusterError, UnusableError
from clusters.existing import ExistingProvider
from clusters.guest import crew, machine
from clusters.providers import KindProvider
from clusters.records import Intent
from clusters.registry import Keep, Run
from clusters.sources import ImageSource
from clusters.spec import ClusterSpec
from helpers.kube import Kube, KubeError
from helpers.waiting import NotSettled

SETTLE_SECONDS: Final = 120.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of clusters, typed."""

    existing: bool
    profile: str | None
    changes: tuple[tuple[str, str], ...]
    kubernetes: str | None
    calico: str | None
    guests: bool
    images: ImageSource
    keep: Keep
    reuse: str | None
    kubeconfig: str | None
    context: str | None
    agent_image: str | None
    argv: tuple[str, ...]

    @classmethod
    def from_options(cls, given: argparse.Namespace, argv: Sequence[str]) -> Wanted:
        return cls(
            existing=given.cluster == "existing",
            profile=given.profile,
            changes=tuple(given.profile_set),
            kubernetes=given.kubernetes_version,
            calico=given.calico_version,
            guests=not given.without_guest,
            images=given.images,
            keep=given.keep_cluster,
            reuse=given.reuse_cluster,
            kubeconfig=given.kubeconfig,
            context=given.context,
            agent_image=given.agent_image,
            argv=("pytest", *map(str, argv)),
        )

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ValueError: which ones, and what to write instead.
        """
        if self.existing and self.reuse:
            raise ValueError(
                "--reuse-cluster names a cluster of ours, --cluster=existing somebody else's: "
                "leave out one of them"
            )
        if not self.existing and (self.kubeconfig or self.context):
            raise ValueError("--kubeconfig and --context name an existing cluster: "
                             "add --cluster=existing")  # fmt: skip
        if self.existing and self.keep is not Keep.NEVER:
            raise ValueError("--keep-cluster is for clusters that the run makes: an existing "
                             "cluster is never destroyed")  # fmt: skip

    def spec(self) -> ClusterSpec:
        """The profile that the options mean.

        Raises:
            SpecError: a ValueError with every problem at once.
        """
        return options.profile(
            self.profile,
            self.changes,
            self.kubernetes,
            self.calico,
            resolve=not self.existing,
            guests=self.guests,
        )


class ClusterSession:
    """The run of a pytest session, in its controller or in one of its workers."""

    def __init__(self, wanted: Wanted, tell: Tell) -> None:
        wanted.check()
        self.wanted = wanted
        self.tell = tell
        self.spec = wanted.spec()
        self._run: Run | None = None
        self._cluster: Cluster | None = None
        self._lock: ReadWriteLock | None = None
        self._about = ""

    @classmethod
    def join(cls, wanted: Wanted, run_id: str, tell: Tell) -> ClusterSession:
        """A worker's part of the session that its controller began."""
        session = cls(wanted, tell)
        session._run = Run.join(run_id)
        return session

    @property
    def run(self) -> Run:
        if self._run is None:
            raise UnusableError("The run was not prepared: no suite was to be collected.")
        return self._run

    @property
    def run_id(self) -> str:
        return self.run.id

    # -- the controller's part ---------------------------------------------------------------

    def prepare(self) -> None:
        """Everything that must be there before workers start; makes no cluster.

        Raises:
            ClusterError: the machine or the options do not allow it.
        """
        self._run = Run.begin(self.wanted.argv)
        if self.wanted.existing:
            provider = self._provider()
            self._about = existing.answering(provider.kubeconfig, provider.context)
            return
        if self.wanted.reuse:
            self._enter_kept(self.wanted.reuse)
            return
        registry.reap(self.tell)
        home, source = lifecycle.prepare(self.spec, self.wanted.images, self.tell)
        # Workers must not choose again: an engine that hiccups then would split the run in two.
        choice = {"engine": home.to_json(), "images": source.value}
        records.write_json(self._choice_file, choice)
        images = "from registries" if source is ImageSource.REGISTRY else "built here"
        self._about = f"{home.name}, images {images}"

    def _enter_kept(self, name: str) -> None:
        cluster = registry.reuse(name, self._shared)
        intent = Intent.read(records.clusters_dir() / cluster.name)
        namespace = intent.engine.get("namespace") if intent else None
        if namespace:
            if not engine.running():
                raise UnusableError(
                    f"Cluster {cluster.name} is gone, its Docker engine was stopped: remove its "
                    f"record with `python -m clusters down {cluster.name}`, then make it anew."
                )
            path = netns.handle(namespace)
            if not netns.inside(path):
                netns.enter(path)
        self._about = existing.answering(cluster.kubeconfig, cluster.context)
        expected = os.environ.get(faults.FAULT_VARIABLE)
        faults.check(cluster, records.clusters_dir() / cluster.name, expected, self.tell)
        lifecycle.refresh(cluster)
        self.spec = cluster.spec

    def end(self, *, failed: bool) -> None:
        """Destroy or keep the run's cluster; leave no trace of the run."""
        if self._run is None:
            return
        self.close()
        keep = self.wanted.keep is Keep.ALWAYS or (self.wanted.keep is Keep.ON_FAILURE and failed)
        for intent in self._run.end(self.tell, keep=keep):
            for line in lifecycle.usage(intent):
                self.tell(line)

    def close(self) -> None:
        """End this process's part: a worker's, or the controller's before it cleans up."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def header(self) -> list[str]:
        """What the run is about, for pytest's header."""
        spec = self.spec
        families = ", ".join(spec.families)
        profile = (
            f"profile {spec.name}: Kubernetes {spec.kubernetes}, Calico {spec.calico}, {families}"
        )
        owner = f"reused {self.wanted.reuse}" if self.wanted.reuse else "made by this run"
        if self.wanted.existing:
            return [f"cluster: existing, {self._about}", f"declared {profile}"]
        keep = "" if self.wanted.reuse else f", kept: {self.wanted.keep}"
        return [f"cluster: {owner}, {profile}{keep}", f"engine: {self._about}"]

    # -- everybody's part --------------------------------------------------------------------

    def obtain(self) -> Cluster:
        """The cluster; made once per run.

        Raises:
            UnusableError: it cannot be had.
        """
        if self._cluster is None:
            self._cluster = self._obtain()
        return self._cluster

    def _obtain(self) -> Cluster:
        if self.wanted.reuse:
            return registry.reuse(self.wanted.reuse, self._shared)
        provider: ClusterProvider = (
            self._provider() if self.wanted.existing else self._kind_provider()
        )
        return self.run.obtain(self.spec, provider, self.tell, keep=self.wanted.keep)

    def _kind_provider(self) -> KindProvider:
        choice = records.read_json(self._choice_file)
        if choice is None:
            raise UnusableError(f"Run {self.run_id} is over: its controller has ended.")
        return KindProvider(Engine.from_json(choice["engine"]), ImageSource(choice["images"]))

    @property
    def _choice_file(self) -> Path:
        return self.run.record.folder / "choice.json"

    def _provider(self) -> ExistingProvider:
        path = existing.kubeconfig_path(self.wanted.kubeconfig)
        image = self.wanted.agent_image or existing.AGENT_IMAGE
        return ExistingProvider(path, self.wanted.context, image)

    @property
    def _shared(self) -> Path:
        return self.run.record.folder / "shared"

    @property
    def _place(self) -> Path:
        """Folder of the lock: the cluster's when it is reused, others may use it too."""
        if self.wanted.reuse:
            return records.clusters_dir() / records.cluster_name(self.wanted.reuse)
        return self.run.record.folder

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait for this test's turn on the cluster; ``alone``: until nobody else is on it."""
        if self._lock is None:
            self._lock = ReadWriteLock(self._place / "turns.lock", is_singleton=False)
        with self._lock.write_lock() if alone else self._lock.read_lock():
            yield

    def settle(self, test: str) -> None:
        """After a disruptive test: wait until the cluster is as it should be, or mark it broken."""
        try:
            cluster = self.obtain()
        except ClusterError:
            return  # there was nothing to disturb
        if self.guest_ended():
            return  # it does not come back, and ``broken`` tells it
        kube = Kube(cluster.kubeconfig, cluster.context)
        try:
            calico.wait_ready(
                kube, cluster.spec, lambda _: None, nodes=len(kube.nodes()), within=SETTLE_SECONDS
            )
        except (NotSettled, KubeError) as error:
            text = f"the cluster did not recover from {test}: {error}"
            records.write_json(self._broken_file, {"error": text})

    def broken(self) -> str | None:
        """Why the cluster cannot decide anything any more, None when it can."""
        found = records.read_json(self._broken_file)
        return str(found["error"]) if found else self.guest_ended()

    def guest_ended(self) -> str | None:
        """The guest node that ended under the tests, with its last words; None when all live."""
        if self._cluster is None or not self._cluster.owned:
            return None
        return crew.dead(machine.guests_of(records.clusters_dir() / self._cluster.name))

    @property
    def _broken_file(self) -> Path:
        return self.run.record.folder / "broken.json"
