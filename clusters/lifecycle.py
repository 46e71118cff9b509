"""What ``python -m clusters`` does with clusters, beyond what the registry offers to runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from clusters import engine, netns, options, outside, preflight, records, registry, sources
from clusters.api import Cluster
from clusters.commands import Progress
from clusters.engine import Engine
from clusters.errors import UnusableError
from clusters.interrupts import uninterrupted
from clusters.providers import KindProvider
from clusters.records import Intent
from clusters.registry import Run
from clusters.sources import ImageSource
from clusters.spec import ClusterSpec


def up(chosen: argparse.Namespace, progress: Progress) -> int:
    """Make a cluster, keep it, and print how to use and remove it.

    Raises:
        ClusterError: it could not be made; nothing of it is left.
        SpecError: the profile cannot be used.
    """
    spec = options.profile(
        chosen.profile,
        chosen.profile_set,
        chosen.kubernetes_version,
        chosen.calico_version,
        guests=not chosen.without_guest,
    )
    name = records.cluster_name(chosen.name or spec.name)
    if Intent.read(records.clusters_dir() / name) is not None:
        raise UnusableError(
            f"Cluster {name} exists already: remove it with `python -m clusters down {name}`, or "
            "choose another --name."
        )
    run = Run.begin(["python", "-m", "clusters", *sys.argv[1:]])
    try:
        registry.reap(progress)
        provider = KindProvider(*prepare(spec, chosen.images, progress))
        run.obtain(spec, provider, progress, name=name)
        intent = next(i for i in records.all_intents() if i.name == name).keep()
    finally:
        with uninterrupted(progress):
            run.end(progress)
    for line in usage(intent):
        print(line)
    return 0


def prepare(
    spec: ClusterSpec, source: ImageSource, progress: Progress
) -> tuple[Engine, ImageSource]:
    """Everything before the cluster: preflight, images, and this process where it is reached.

    Call it before threads or workers start.

    Returns:
        the engine, and where images come from.

    Raises:
        ClusterError: the machine lacks something, or images cannot be had.
    """
    home = engine.find_engine()
    chosen = sources.choose(source, home, spec)
    build = chosen is ImageSource.BUILD and not sources.built_already(spec)
    plan = preflight.Plan(home.private, build, spec.host_node_count, spec.guest_node_count)
    preflight.check(plan)
    engine.check_free(home)
    sources.node_images(spec, home, chosen, progress)  # the network is still the machine's own
    engine.prepare(home)
    home.enter()
    return home, chosen


def refresh(cluster: Cluster) -> None:
    """See that a reused cluster's outside host runs the agent of this checkout."""
    if cluster.outside is not None:
        outside.refresh_agent(cluster.outside)


def usage(intent: Intent) -> Iterator[str]:
    """How to use and remove a kept cluster, as lines to paste."""
    namespace = intent.engine.get("namespace")
    yield f"Cluster {intent.name} is kept."
    yield f"  use it:      export KUBECONFIG={intent.folder / 'kubeconfig'}"
    if namespace:
        # A private engine's clusters are reached from within its network namespace only.
        docker = intent.engine["docker"]
        yield f"               export DOCKER_HOST={docker[docker.index('--host') + 1]}"
        yield f"               nsenter --net={netns.handle(namespace)} kubectl get nodes"
    yield f"  test it:     pytest suites -n4 --reuse-cluster {intent.name}"
    yield f"  remove it:   python -m clusters down {intent.name}"


def listing() -> Iterator[str]:
    """Clusters, runs and the private engine, one line each."""
    runs = {run.id: run for run in records.all_runs()}
    empty = True
    for intent in records.all_intents():
        empty = False
        yield f"cluster {intent.name}  {_state(intent, runs)}  since {intent.since}"
        kubeconfig = intent.folder / "kubeconfig"
        if kubeconfig.exists():
            yield f"        kubeconfig {kubeconfig}"
    for run in runs.values():
        empty = False
        state = f"pid {run.owner.pid}" if run.alive else "dead: `python -m clusters reap`"
        yield f"run     {run.id}  {state}  since {run.since}  {' '.join(run.argv)}"
    private = engine.private_engine()
    if engine.running():
        empty = False
        yield f"engine  {private.socket}  network namespace {private.namespace}"
    if empty:
        yield "no clusters, no runs, no private engine"


def _state(intent: Intent, runs: dict[str, records.RunRecord]) -> str:
    found = records.read_json(Path(intent.folder) / records.RECORD_FILE)
    if found is None:
        state = "being made"
    elif "error" in found:
        state = "failed"
    else:
        state = "ready"
    if intent.engine.get("private") and not engine.running():
        state = "gone (its engine is stopped)"
    if intent.kept:
        return f"{state}, kept"
    run = runs.get(intent.run)
    return f"{state}, of run {intent.run}" if run and run.alive else f"{state}, of a dead run"
