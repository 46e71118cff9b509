"""Clusters made by kind: containers as nodes, Calico as the network, an outside host beside them.

Everything made for a cluster carries its name: nodes by kind's own label, the outside host and
the network by ours. ``remove`` needs nothing else, so it also removes what an interrupted or
killed creation left.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clusters import calico, engine, networks, outside, preflight, processes
from clusters.api import Cluster, Outside
from clusters.commands import Progress, output, run, run_logged, silent, tail
from clusters.engine import Engine
from clusters.errors import ClusterError, CommandFailedError
from clusters.guest import crew, join, machine
from clusters.guest.crew import Crew
from clusters.images import GuestFiles
from clusters.render_calico import PullPolicy
from clusters.render_kind import kind_config, kind_refusal, kind_yaml, node_names
from clusters.spec import ClusterSpec
from helpers.kube import Kube, KubeError
from helpers.waiting import NotSettled, eventually

KIND_LABEL: Final = "io.x-k8s.kind.cluster"
CREATE_SECONDS: Final = 600.0
REMOVE_SECONDS: Final = 120.0
ADMIN_KUBECONFIG: Final = "/etc/kubernetes/admin.conf"
LOG: Final = "create.log"


@dataclass(frozen=True, slots=True)
class NodeImages:
    """The images and files that one cluster is made of, wherever they come from.

    Attributes:
        pull_policy: of Calico and agents: ``Never`` when their images are inside the node image.
        load: brings the images into the engine; does nothing when they are there.
        load_nodes: brings the agent image into the nodes of a cluster; None: it is there.
        guest: what nodes with a kernel of their own are made of; None: there can be none.
    """

    node_image: str
    agent_image: str
    outside_image: str
    pull_policy: PullPolicy
    kind: Path
    calico_manifest: Path
    load: Callable[[Engine, Progress], None]
    load_nodes: Callable[[Engine, str, Progress], None] | None = None
    guest: GuestFiles | None = None


class Clock:
    """Progress lines with the seconds since the beginning, and how long each step took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def say(self, line: str) -> None:
        self._progress(f"[{time.monotonic() - self._began:4.0f} s] {line}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - begin, 1)


def create(
    name: str,
    spec: ClusterSpec,
    images: NodeImages,
    home: Engine,
    folder: Path,
    progress: Progress,
) -> Cluster:
    """Make a cluster and wait until nodes, Calico, DNS and BGP of both families are ready.

    Args:
        name: of the cluster; begins the names of everything that is made.
        spec: a profile whose proxy modes are resolved. Its node networks are exchanged for free
            ones where others use them.
        home: the engine; started when it does not run. This process must be where the engine's
            clusters can be reached (``Engine.enter``).
        folder: for kubeconfig and log.

    Raises:
        ClusterError: it could not be made; the message has the end of the log. What was made so
            far is still there: call ``remove``.
    """
    refusal = kind_refusal(spec)
    if refusal:
        raise ClusterError(refusal)
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(progress)
    with clock.step("engine"):
        engine.start(home, clock.say)
    with clock.step("images"):
        images.load(home, clock.say)
    spec = networks.with_free_node_networks(spec, home.docker, clock.say)
    networks.create(home.docker, name, spec)
    maker = _Maker(name, spec, images, home, folder, clock)
    cluster = maker.make()
    (folder / "seconds.json").write_text(json.dumps(clock.seconds, indent=1))
    clock.say("ready: " + ", ".join(f"{step} {took:.0f} s" for step, took in clock.seconds.items()))
    return cluster


@dataclass(frozen=True, slots=True)
class _Maker:
    """One creation, after the network is there."""

    name: str
    spec: ClusterSpec
    images: NodeImages
    home: Engine
    folder: Path
    clock: Clock

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def _early(self) -> Path:
        return self.folder / "kubeconfig.early"

    @property
    def log(self) -> Path:
        return self.folder / LOG

    def make(self) -> Cluster:
        stop = threading.Event()
        guests = crew.start(
            self.spec, self.images.guest, self.name, self.folder, self.home.docker, self.clock.say
        )
        with ThreadPoolExecutor(max_workers=4) as threads:
            host = threads.submit(self._outside)
            access = threads.submit(self._early_kubeconfig, stop)
            early = threads.submit(self._install_calico, access, stop)
            joining = threads.submit(self._join_guests, guests, access, stop)
            try:
                with self.clock.step("kind"):
                    self._kind()
                if self.images.load_nodes:
                    with self.clock.step("load"):
                        self.images.load_nodes(self.home, self.name, self.clock.say)
            except BaseException:
                stop.set()
                raise
            with self.clock.step("outside"):
                there = host.result()
                outside.become_default_gateway(there, node_names(self.spec, self.name))
            with self.clock.step("calico"):
                early.result()
                joining.result()
                kube = Kube(self.kubeconfig)
                self._wait_ready(kube, guests)
            outside.sync_routes(there, kube)
            self.clock.seconds.update(guests.seconds(kube))
        self._early.unlink(missing_ok=True)
        return self._cluster(there)

    def _outside(self) -> Outside:
        return outside.create(
            self.home.docker, self.images.outside_image, self.name, self.name, self.spec
        )

    def _kind(self) -> None:
        config = self.folder / "kind.yaml"
        rendered = kind_config(self.spec, self.images.node_image, cgroup_v1=cgroup_v1())
        config.write_text(kind_yaml(rendered))
        argv = [str(self.images.kind), "create", "cluster", "--name", self.name, "--retain",
                "--config", str(config), "--kubeconfig", str(self.kubeconfig)]  # fmt: skip
        try:
            run_logged(
                argv,
                self.log,
                timeout=CREATE_SECONDS,
                env={
                    **self.home.environment,
                    "KIND_EXPERIMENTAL_PROVIDER": "docker",
                    "KIND_EXPERIMENTAL_DOCKER_NETWORK": self.name,
                    processes.CLUSTER_VARIABLE: self.name,
                },
                on_line=self._tell,
            )
        except CommandFailedError as error:
            raise ClusterError(
                f"kind could not make the cluster: {error}\n{self._why()}"
            ) from error

    def _tell(self, line: str) -> None:
        """kind's steps, without its check marks and pictures."""
        if line.startswith(" •"):
            text = line.encode("ascii", "ignore").decode().strip(" .")
            self.clock.say(f"kind: {text[0].lower()}{text[1:]}")

    def _why(self) -> str:
        """The end of kubelet's journal on nodes that are there: kind's own text rarely says why."""
        parts = []
        for node in _nodes(self.home.docker, self.name):
            journal = run(
                [*self.home.docker, "exec", node, "journalctl", "--unit=kubelet", "--lines=8",
                 "--no-pager", "--output=cat"],
                check=False,
            )  # fmt: skip
            text = journal.stdout.strip() or journal.stderr.strip()
            parts.append(f"kubelet on {node}:\n" + "\n".join(f"  | {x}" for x in text.splitlines()))
        return "\n".join(parts)

    def _install_calico(self, access: Future[Path | None], stop: threading.Event) -> None:
        """Install Calico as soon as the API server answers, while kind still joins workers."""
        kubeconfig = access.result()
        if kubeconfig is None:
            return

        def installed() -> bool:
            if stop.is_set():
                return True
            kube = Kube(kubeconfig)
            kube.request("GET", "/readyz", attempts=1)
            calico.install(
                kube,
                self.images.calico_manifest,
                self.spec,
                self.clock.say,
                pull_policy=self.images.pull_policy,
            )
            return True

        try:
            eventually(installed, bool, within=CREATE_SECONDS, every=1.0, retry_on=(KubeError,),
                       what="the API server takes Calico's objects")  # fmt: skip
        except NotSettled as error:
            raise ClusterError(f"Calico could not be installed: {error}") from error

    def _join_guests(
        self, guests: Crew, access: Future[Path | None], stop: threading.Event
    ) -> None:
        """Let guests join as soon as kubeadm is done, while kind still joins workers."""
        kubeconfig = access.result() if guests else None
        if kubeconfig is None:
            return
        kube = Kube(kubeconfig)

        def arranged() -> bool:
            return stop.is_set() or join.arrange_proxies(kube, self.spec, self.clock.say)

        try:
            eventually(arranged, bool, within=CREATE_SECONDS, retry_on=(KubeError, LookupError),
                       what="kubeadm deploys kube-proxy")  # fmt: skip
        except NotSettled as error:
            raise ClusterError(f"Guest nodes could not join: {error}") from error
        if not stop.is_set():
            guests.lengthen_queues()
            guests.tell(kube, self.spec, self.home.docker, self.name)

    def _early_kubeconfig(self, stop: threading.Event) -> Path | None:
        """The administrator's kubeconfig, before kind itself writes one; None when told to stop."""
        asked = [str(self.images.kind), "get", "kubeconfig", "--name", self.name]

        def answered() -> str | None:
            if stop.is_set():
                return ""
            done = run(asked, check=False, env=self.home.environment)
            return done.stdout if done.returncode == 0 and "server:" in done.stdout else None

        text = eventually(answered, lambda text: text is not None, within=CREATE_SECONDS,
                          every=1.0, what="kubeadm writes a kubeconfig")  # fmt: skip
        if not text:
            return None
        self._early.touch(mode=0o600)
        self._early.write_text(text)
        return self._early

    def _wait_ready(self, kube: Kube, guests: Crew) -> None:
        within = calico.READY_WITHIN * (2 if guests else 1)  # a guest starts programs slowly
        try:
            calico.wait_ready(
                kube, self.spec, self.clock.say, within=within, hopeless=guests.trouble
            )
        except NotSettled as error:
            raise ClusterError(
                f"The cluster did not become ready: {error}{guests.consoles()}"
            ) from error

    def _cluster(self, there: Outside) -> Cluster:
        shared = self.folder / "shared"
        shared.mkdir(exist_ok=True)
        return Cluster(
            name=self.name,
            kubeconfig=self.kubeconfig,
            context=None,
            spec=self.spec,
            owned=True,
            agent_image=self.images.agent_image,
            agent_image_pull_policy=self.images.pull_policy,
            outside=there,
            state=shared,
            engine=self.home.environment,
        )


def _likely(text: str) -> str:
    """The cause that kind's own text does not name, when there are signs of it."""
    if "too many open files" in text or preflight.inotify_left() < preflight.INOTIFY_PER_NODE:
        return (
            " because inotify instances ran out (remove another cluster, or as root "
            f"`sysctl -w fs.inotify.max_user_instances={preflight.INOTIFY_RAISED}`)"
        )
    if "context deadline exceeded" in text or "would exceed context deadline" in text:
        return " because it was too slow (end other programs, or use --profile quick)"
    if "no space left" in text:
        return " because the disk is full (free some, or set XDG_CACHE_HOME)"
    return ""


def remove(
    name: str,
    docker: tuple[str, ...],
    progress: Progress = silent,
    *,
    namespace: str | None = None,
) -> None:
    """Remove all that Docker has of a cluster of this name, complete or not, if there is any.

    Its guest nodes are processes that carry its mark: end them first.

    Args:
        namespace: name of the engine's network namespace; None: the machine's own.

    Raises:
        CommandFailedError: the engine does not answer, or refused.
    """
    machine.disconnect(name, namespace)
    containers = _containers(docker, name)
    if containers:
        progress(f"removing {len(containers)} containers of {name}")
        run([*docker, "rm", "--force", "--volumes", *containers], timeout=REMOVE_SECONDS)
    networks.remove(docker, name)


def log_tail(folder: Path) -> str:
    """The end of the log of a creation."""
    return tail(folder / LOG)


def _containers(docker: tuple[str, ...], name: str) -> list[str]:
    found: list[str] = []
    for label in (KIND_LABEL, outside.CLUSTER_LABEL):
        listed = output([*docker, "ps", "--all", "--quiet", "--filter", f"label={label}={name}"])
        found += listed.split()
    return found


def _nodes(docker: tuple[str, ...], name: str) -> list[str]:
    argv = [*docker, "ps", "--format", "{{.Names}}", "--filter", f"label={KIND_LABEL}={name}"]
    return sorted(run(argv, check=False).stdout.split())


def cgroup_v1() -> bool:
    """Whether the host has cgroup v1: with v2 alone this file is at the root of the mount."""
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()
