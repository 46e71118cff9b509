"""Where Docker lives: the user's engine when it answers, else a private one of ours.

The private engine is a dockerd in a network namespace of its own: nothing of the machine's
network changes, every address range is free, and all test traffic stays inside. Whoever wants to
reach a cluster there enters the namespace (``enter``); what it starts inherits it.

A data root serves one dockerd: it lies in the cache, so that images are imported once. The engine
is therefore one per cache, shared by all runs and kept clusters that use it, and its name follows
from the path of the data root. The registry stops it when nobody uses it any more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from clusters import dockerd, netns
from clusters.commands import Progress, run, silent
from clusters.errors import CommandFailedError, EngineError
from clusters.processes import Identity
from helpers.naming import PREFIX, cache_dir, state_dir

ANSWER_SECONDS = 10.0
START_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine and how to reach it.

    Attributes:
        name: for people: ``the Docker engine at ...``.
        socket: URL for DOCKER_HOST; None: what the docker CLI uses by itself.
        namespace: name of the network namespace that it lives in; None: the machine's own.
    """

    name: str
    socket: str | None = None
    namespace: str | None = None

    @property
    def private(self) -> bool:
        return self.namespace is not None

    def to_json(self) -> dict[str, str | None]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Engine:
        return cls(data["name"], data["socket"], data["namespace"])

    @property
    def docker(self) -> tuple[str, ...]:
        """The beginning of every docker command for this engine."""
        return ("docker",) if self.socket is None else ("docker", "--host", self.socket)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for tools that call docker themselves, such as kind."""
        return {} if self.socket is None else {"DOCKER_HOST": self.socket}

    def enter(self) -> None:
        """Move this process to where the engine's clusters can be reached.

        Call it before threads or workers start: setns(2) moves one thread, children inherit.

        Raises:
            EngineError: the namespace is gone, or the privileges are missing.
        """
        if self.namespace is not None:
            path = netns.handle(self.namespace)
            if not netns.inside(path):
                netns.enter(path)


def find_engine() -> Engine:
    """The user's engine when it answers, else the private one (not started yet).

    Raises:
        EngineError: DOCKER_HOST names an engine that does not answer, or a private engine cannot
            be had on this machine.
    """
    private = private_engine()
    wanted = os.environ.get("DOCKER_HOST")
    if wanted == private.socket:
        return private
    try:
        version = server_version(("docker",))
    except CommandFailedError as error:
        if wanted:
            raise EngineError(
                f"DOCKER_HOST={wanted} does not answer: start that engine, or unset DOCKER_HOST "
                f"to have a private one started. {error}"
            ) from error
        return private
    return Engine(f"the user's Docker engine {version}", socket=wanted)


def private_engine() -> Engine:
    """The private engine that belongs to this cache, running or not."""
    places = Places.of_cache()
    return Engine(
        f"a private Docker engine in network namespace {places.name}",
        socket=f"unix://{places.socket}",
        namespace=places.name,
    )


def server_version(docker: tuple[str, ...]) -> str:
    """Version of the engine that answers.

    Raises:
        CommandFailedError: none answers, or there is no docker command.
    """
    asked = [*docker, "version", "--format", "{{.Server.Version}}"]
    return run(asked, timeout=ANSWER_SECONDS).stdout.strip()


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of a private engine is; all of it follows from the data root."""

    name: str
    data_root: Path

    @classmethod
    def of_cache(cls, cache: Path | None = None) -> Places:
        data_root = (cache or cache_dir()).resolve() / "docker"
        digest = hashlib.sha256(str(data_root).encode()).hexdigest()[:8]
        return cls(f"{PREFIX}-{digest}", data_root)

    @property
    def run_dir(self) -> Path:
        """Short, because a unix socket's path has at most 107 characters."""
        return Path("/run") / self.name

    @property
    def socket(self) -> Path:
        return self.run_dir / "docker.sock"

    @property
    def exec_root(self) -> Path:
        return self.run_dir / "exec"

    @property
    def pidfile(self) -> Path:
        return self.run_dir / "docker.pid"

    @property
    def log(self) -> Path:
        return self.run_dir / "dockerd.log"

    @property
    def lock(self) -> Path:
        """Held by dockerd and its shims for as long as they live."""
        return self.data_root.with_name("docker.lock")

    @property
    def cgroup(self) -> str:
        return f"/{self.name}"

    @property
    def namespace(self) -> Path:
        return netns.handle(self.name)


def record_path() -> Path:
    """The record of the private engine of this state directory: intent first, then pid."""
    return state_dir() / "engine.json"


def transition_lock() -> FileLock:
    """Held while the engine is being started or stopped, and while users come and go."""
    state_dir().mkdir(parents=True, exist_ok=True)
    return FileLock(state_dir() / "engine.lock")


def check_free(engine: Engine) -> None:
    """See that no other state directory's engine has the data root of this cache.

    Raises:
        EngineError: who has it, and what to do.
    """
    if engine.private and not running():
        dockerd.check_free(Places.of_cache())


def prepare(engine: Engine) -> None:
    """Make the private engine's network namespace, so that it can be entered; start nothing.

    Raises:
        EngineError: not possible here; the message has the fix.
    """
    if not engine.private:
        return
    dockerd.check_prerequisites()
    places = Places.of_cache()
    with transition_lock():
        if _recorded() is None:
            _write_record(places, None)
        if not places.namespace.exists():
            netns.create(places.name)


def start(engine: Engine, progress: Progress = silent) -> None:
    """Have the engine running; the user's runs already, the private one is started once.

    Any process may call it, any number of times.

    Raises:
        EngineError: it could not be started; the message has the end of its log and the fix.
    """
    if not engine.private:
        return
    prepare(engine)
    places = Places.of_cache()
    with transition_lock():
        daemon = _recorded_daemon()
        if daemon is not None and daemon.alive:
            dockerd.wait_answering(places, daemon, START_SECONDS)
            return
        progress("engine: starting a private dockerd")
        dockerd.clear(places)
        dockerd.start(places, lambda daemon: _write_record(places, daemon), START_SECONDS)
        dockerd.remove_leftovers(places)


def stop(progress: Progress = silent) -> bool:
    """Stop the private engine and remove all that it left outside of the cache.

    Works from any process, also for an engine whose run was killed. Call it with the transition
    lock held.

    Returns:
        whether there was anything of it.
    """
    places = Places.of_cache()
    record = _recorded()
    if record is None and not places.run_dir.exists() and not places.namespace.exists():
        return False
    progress("engine: stopping the private dockerd")
    daemon = _recorded_daemon()
    if daemon is not None and daemon.alive:
        dockerd.stop(places, daemon)
    dockerd.clear(places)
    netns.remove(places.name)
    record_path().unlink(missing_ok=True)
    return True


def running() -> bool:
    """Whether the private engine of this state directory runs."""
    daemon = _recorded_daemon()
    return daemon is not None and daemon.alive


def _recorded() -> Mapping[str, Any] | None:
    try:
        record: Mapping[str, Any] = json.loads(record_path().read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError:
        return {}  # cut short by a crash: an engine was intended
    return record


def _recorded_daemon() -> Identity | None:
    recorded = (_recorded() or {}).get("daemon")
    return Identity.from_json(recorded) if recorded else None


def _write_record(places: Places, daemon: Identity | None) -> None:
    path = record_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "name": places.name,
        "data_root": str(places.data_root),
        "run_dir": str(places.run_dir),
        "daemon": daemon.to_json() if daemon else None,
    }
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(record, indent=1))
    draft.replace(path)
