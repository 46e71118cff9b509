"""Images from registries: kind's node image, Calico's own, and a small agent image made of them.

kind itself and Calico's manifest come from their Go modules, as for built images: versions and
hashes are pinned in the same place, and nothing is fetched by an address that may change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from clusters import netns
from clusters.commands import Progress, run
from clusters.engine import Engine
from clusters.errors import ClusterError, CommandFailedError
from clusters.images import ImageBuildError, build, golang
from clusters.images.api import ImageRequest
from clusters.images.cache import Cache, cache_root
from clusters.images.process import Children
from clusters.images.versions import Component, pinned
from clusters.kind import NodeImages
from clusters.spec import ClusterSpec, Version
from helpers.naming import PREFIX, cache_dir

PULL_SECONDS: Final = 900.0
LOOK_SECONDS: Final = 15.0
# The agent needs Python alone; tests that look at a host want ip and ping there.
DOCKERFILE: Final = """\
FROM python:3.13-slim
RUN apt-get update \\
 && apt-get install -y --no-install-recommends iproute2 iputils-ping \\
 && rm -rf /var/lib/apt/lists/*
"""


def node_image(spec: ClusterSpec) -> str:
    """kind's published node image for the profile's Kubernetes."""
    known = pinned().kubernetes.versions.get(f"v{spec.kubernetes}")
    return known.upstream_node_image if known else f"kindest/node:v{spec.kubernetes}"


def agent_image() -> str:
    """Name of the agent image; its tag follows from its Dockerfile."""
    return f"{PREFIX}.local/agent:{hashlib.sha256(DOCKERFILE.encode()).hexdigest()[:12]}"


def reachable(home: Engine, spec: ClusterSpec) -> bool:
    """Whether the engine has the node image, or its registry answers that it exists."""
    image = node_image(spec)
    for question in (["image", "inspect"], ["manifest", "inspect"]):
        try:
            if run([*home.docker, *question, image], check=False, timeout=LOOK_SECONDS).returncode:
                continue
        except CommandFailedError:  # no answer in time
            continue
        return True
    return False


def node_images(spec: ClusterSpec, home: Engine, progress: Progress) -> NodeImages:
    """What a cluster from registries is made of. Pulls nothing yet.

    Raises:
        ClusterError: a private engine has no way to a registry, or kind or the manifest cannot
            be had.
    """
    if home.private:
        raise ClusterError(
            "--images=registry needs a Docker engine of yours that reaches the registries: start "
            "Docker or set DOCKER_HOST; without one, --images=build makes the images here."
        )
    with netns.at_home():
        kind = _kind(progress)
        manifest = calico_manifest(spec.calico, progress)
    return NodeImages(
        node_image=node_image(spec),
        agent_image=agent_image(),
        outside_image=agent_image(),
        pull_policy="IfNotPresent",
        kind=kind,
        calico_manifest=manifest,
        load=lambda home, progress: _load(spec, home, progress),
        load_nodes=lambda home, name, progress: _load_nodes(kind, home, name, progress),
    )


def _load(spec: ClusterSpec, home: Engine, progress: Progress) -> None:
    image = node_image(spec)
    if run([*home.docker, "image", "inspect", image], check=False).returncode:
        progress(f"pulling {image}")
        run([*home.docker, "pull", image], timeout=PULL_SECONDS)
    if run([*home.docker, "image", "inspect", agent_image()], check=False).returncode:
        progress(f"building the agent image {agent_image()}")
        run(
            [*home.docker, "build", "--tag", agent_image(), "-"],
            timeout=PULL_SECONDS,
            text_in=DOCKERFILE,
        )


def _load_nodes(kind: Path, home: Engine, name: str, progress: Progress) -> None:
    progress("loading the agent image into the nodes")
    run(
        [str(kind), "load", "docker-image", agent_image(), "--name", name],
        timeout=PULL_SECONDS,
        env=home.environment,
    )


def _kind(progress: Progress) -> Path:
    """kind from PATH, else compiled from its module (20 s, once)."""
    found = shutil.which("kind")
    if found:
        return Path(found)
    versions, cache = pinned(), Cache(cache_root())
    request = ImageRequest()  # kind is the same for every Kubernetes
    step = next(s for s in build.plan(request, cache, versions).go if s.name == "go-kind")
    entry = cache.entry(step.name, step.key)
    if entry.is_dir():
        return entry / "bin" / "kind"
    with cache.locked(progress):
        if not entry.is_dir():  # another builder may have made it meanwhile
            progress(f"compiling kind {versions.components['kind'].version}")
            log = cache.log(step.name)
            log.parent.mkdir(parents=True, exist_ok=True)
            try:
                with cache.making(step.name, step.key) as target:
                    step.make(Children(), target, log)
            except ImageBuildError as error:
                raise ClusterError(f"kind was not found and cannot be compiled: {error}") from error
    return entry / "bin" / "kind"


def calico_manifest(release: Version, progress: Progress) -> Path:
    """Upstream's manifest out of Calico's module, which go.sum pins.

    Raises:
        ClusterError: the release is not pinned, or go cannot fetch it.
    """
    version = f"v{release}"
    target = cache_dir() / "manifests" / f"calico-{version}.yaml"
    if target.exists():
        return target
    try:
        component = pinned().components[pinned().calico_version(version).component]
    except ImageBuildError as error:
        raise ClusterError(str(error)) from error
    progress(f"fetching the manifest of Calico {version}")
    folder = _module_folder(component)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    shutil.copyfile(folder / "manifests" / "calico.yaml", draft)
    draft.replace(target)
    return target


def _module_folder(component: Component) -> Path:
    module = component.module or "."
    for argv in (["go", "mod", "download", module],
                 ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]):  # fmt: skip
        try:
            done = subprocess.run(
                argv,
                cwd=component.path,
                env={**os.environ, **golang.ENVIRONMENT},
                capture_output=True,
                text=True,
                timeout=PULL_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise ClusterError(
                "go was not found: it fetches Calico's manifest. Install Go 1.26.8 or later "
                "(https://go.dev/dl/) and put it on PATH."
            ) from error
        if done.returncode:
            raise ClusterError(f"`{' '.join(argv)}` failed: {done.stderr.strip()[-500:]}")
    return Path(done.stdout.strip())
