"""Stands in for kind: "makes" a cluster as files and a process, or as one real container.

Imported into the project's pytest (controller and workers) and run as ``python -m clusters``.
``DSC_TEST_MODE``: words that say how it behaves: brief, slow, fail, die, guest, real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusters import engine, existing, lifecycle, processes, registry
from clusters.api import Cluster
from clusters.commands import Progress, run
from clusters.engine import Engine
from clusters.errors import ClusterError
from clusters.guest.machine import CONSOLE, GUESTS, Guest
from clusters.processes import Identity
from clusters.records import Intent
from clusters.sources import ImageSource
from clusters.spec import ClusterSpec
from helpers import cluster_session

ROOT = Path(os.environ["DSC_TEST_PROJECT"])
IMAGE = "tiny"
SLOW_SECONDS = "60"
_children: list[subprocess.Popen[bytes]] = []  # a reference keeps Python from warning


def mode() -> set[str]:
    return set(os.environ.get("DSC_TEST_MODE", "").split())


def tell(event: str) -> None:
    with (ROOT / "events.log").open("a") as log:
        log.write(f"{event}\n")


class StandIn:
    """A provider whose clusters are a file and, when ``real``, a container."""

    kind = "stand-in"

    def __init__(self, home: Engine, source: object) -> None:
        self.home = home

    @property
    def engine(self) -> Mapping[str, Any]:
        real = "real" in mode()
        return {"docker": list(self.home.docker), "private": real,
                "namespace": self.home.namespace if real else None}  # fmt: skip

    def create(self, name: str, spec: ClusterSpec, folder: Path, progress: Progress) -> Cluster:
        tell(f"create {name}")
        made = ROOT / "made" / name
        made.parent.mkdir(exist_ok=True)
        made.touch()
        if "real" in mode():
            engine.start(self.home, progress)
            _container(self.home, name)
        if "slow" in mode() or "die" in mode():
            # Like kind: a process that goes on making things when its parent is gone.
            child = subprocess.Popen(
                ["sleep", SLOW_SECONDS], env={**os.environ, processes.CLUSTER_VARIABLE: name},
                start_new_session=True,
            )  # fmt: skip
            tell(f"started {child.pid}")
            if "die" in mode():
                os.kill(os.getpid(), signal.SIGKILL)
            child.wait()
        if "guest" in mode():
            _guest(name, folder)
        if "brief" in mode():
            run(["sleep", "3"])  # long enough that every worker asks meanwhile
        if "fail" in mode():
            (folder / "create.log").write_text("line of the log\n")
            raise ClusterError("the stand-in was told to fail")
        shared = folder / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        return Cluster(
            name=name, kubeconfig=folder / "kubeconfig", context=None, spec=spec, owned=True,
            agent_image="none", agent_image_pull_policy="Never", outside=None, state=shared,
        )  # fmt: skip


def _guest(name: str, folder: Path) -> None:
    """A process that is found, watched and ended like a node with a kernel of its own."""
    ours = {k: v for k, v in os.environ.items() if k != processes.RUN_VARIABLE}
    child = subprocess.Popen(
        ["sleep", SLOW_SECONDS], env={**ours, processes.CLUSTER_VARIABLE: name},
        start_new_session=True,
    )  # fmt: skip
    _children.append(child)
    process = Identity.of(child.pid)
    assert process is not None
    guest = Guest(f"{name}-ipvs", process, time.time(), folder / GUESTS / f"{name}-ipvs")
    guest.write()
    (guest.folder / CONSOLE).write_text("last words\n")


def _container(home: Engine, name: str) -> None:
    """A container with a network of its own, from an image made of the machine's own files."""
    docker = home.docker
    if run([*docker, "image", "inspect", IMAGE], check=False).returncode:
        run([*docker, "import", str(ROOT / "tiny.tar"), IMAGE])
    run([*docker, "network", "create", "--ipv6", "--subnet", "10.241.0.0/24",
         "--subnet", "fd00:10:241::/64", "--label", f"dsc.cluster={name}", name])  # fmt: skip
    run([*docker, "run", "--detach", "--privileged", "--network", name, "--name", name,
         "--label", f"dsc.cluster={name}", IMAGE, "/bin/sleep", "3600"])  # fmt: skip


def remove(intent: Intent, progress: Progress) -> None:
    tell(f"remove {intent.name}")
    if intent.engine["private"]:
        registry.removers["kind"](intent, progress)
    (ROOT / "made" / intent.name).unlink(missing_ok=True)


def home() -> Engine:
    return engine.private_engine() if "real" in mode() else Engine("a stand-in")


def prepare(spec: ClusterSpec, source: object, progress: Progress) -> tuple[Engine, ImageSource]:
    tell("prepare")
    chosen = home()
    if "real" in mode():
        engine.prepare(chosen)
        chosen.enter()
    return chosen, ImageSource.BUILD


def install() -> None:
    """Put the stand-in where kind would be."""
    replacements: list[tuple[Any, str, Any]] = [
        (cluster_session, "KindProvider", StandIn),
        (cluster_session.ClusterSession, "settle", lambda *_: None),
        (existing, "answering", lambda *_: "a stand-in"),
        (engine, "find_engine", home),
        (lifecycle, "prepare", prepare),
    ]
    for where, name, what in replacements:
        setattr(where, name, what)
    registry.removers["stand-in"] = remove


if __name__ == "__main__":
    from clusters.__main__ import main

    install()
    sys.exit(main())
