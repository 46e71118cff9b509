"""Where a cluster's images come from: built here from sources, or pulled from registries.

``build`` needs no registry: Go modules and Debian packages become a node image that holds every
other image. ``registry`` takes kind's published node image and Calico's published images, and
needs an engine that reaches them.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from clusters import images as built
from clusters import netns, pulled
from clusters.commands import Progress, run, silent
from clusters.engine import Engine
from clusters.errors import ClusterError
from clusters.images import build
from clusters.images.cache import Cache, cache_root
from clusters.images.versions import pinned
from clusters.kind import NodeImages
from clusters.spec import ClusterSpec, Version

IMAGES_KEPT: Final = 2  # beside the current one: going back and forth between versions is common


class ImageSource(StrEnum):
    """Value of ``--images``."""

    AUTO = "auto"
    BUILD = "build"
    REGISTRY = "registry"


def choose(source: ImageSource, home: Engine, spec: ClusterSpec) -> ImageSource:
    """What ``auto`` stands for: registries when the user's engine runs and reaches them.

    A private engine lives in a network namespace without a way out, so there it is ``build``, as
    it is for nodes with a kernel of their own, whose disk is made of the image that is built.

    Raises:
        ClusterError: registries were asked for, and cannot serve the profile.
    """
    if source is ImageSource.REGISTRY and spec.guest_groups:
        raise ClusterError(
            "Nodes with a kernel of their own are made from images that are built here, not from "
            "registries: leave out --images, or add --without-guest."
        )
    if source is not ImageSource.AUTO:
        return source
    if home.private or spec.guest_groups or not pulled.reachable(home, spec):
        return ImageSource.BUILD
    return ImageSource.REGISTRY


def node_images(
    spec: ClusterSpec, home: Engine, source: ImageSource, progress: Progress = silent
) -> NodeImages:
    """The images for a profile; builds in the cache what is missing there.

    Raises:
        ClusterError: they cannot be had; the message has the fix.
    """
    if choose(source, home, spec) is ImageSource.REGISTRY:
        return pulled.node_images(spec, home, progress)
    return _built(spec, progress)


def built_already(spec: ClusterSpec) -> bool:
    """Whether the images of a profile are in the cache.

    Raises:
        ClusterError: one of its versions cannot be built.
    """
    request = _request(spec)
    try:
        steps = build.plan(request, Cache(cache_root()), pinned())
    except built.ImageBuildError as error:
        raise ClusterError(str(error)) from error
    return steps.complete(Cache(cache_root()))


def _request(spec: ClusterSpec) -> built.ImageRequest:
    releases = tuple(f"v{version}" for version in (spec.calico, *spec.calico_upgrades))
    return built.ImageRequest(f"v{spec.kubernetes}", releases, guest=bool(spec.guest_groups))


def calico_manifest(
    spec: ClusterSpec, version: Version, *, built_here: bool, progress: Progress = silent
) -> Path:
    """Upstream's manifest of a release that a cluster can be upgraded to; builds nothing.

    Args:
        built_here: whether the cluster's images were built here: what its nodes do not hold they
            cannot pull either.

    Raises:
        ClusterError: the nodes have no images of it, or the manifest cannot be had.
    """
    if not built_here:
        with netns.at_home():
            return pulled.calico_manifest(version, progress)
    if version not in (spec.calico, *spec.calico_upgrades):
        raise ClusterError(
            f"The nodes hold no images of Calico {version}: make the cluster with "
            f"`--set calico_upgrades={version}`."
        )
    if not built_already(spec):
        raise ClusterError(
            "The images that the cluster was made of are not in the cache any more: make it anew."
        )
    return built.ensure_images(_request(spec), progress).calico_manifests[f"v{version}"]


def _built(spec: ClusterSpec, progress: Progress) -> NodeImages:
    request = _request(spec)
    try:
        with netns.at_home():  # the build fetches sources, and a private engine has no way out
            made = built.ensure_images(request, progress)
    except built.ImageBuildError as error:
        raise ClusterError(str(error)) from error

    def load(home: Engine, progress: Progress) -> None:
        progress(f"node image {made.node_image} into Docker, unless it is there")
        try:
            built.load_into_docker(made, home.docker)
        except built.ImageBuildError as error:
            raise ClusterError(str(error)) from error
        _drop_old_images(home, made.node_image)

    return NodeImages(
        node_image=made.node_image,
        agent_image=made.agent_image,
        outside_image=made.outside_image,
        pull_policy="Never",
        kind=made.kind_binary,
        calico_manifest=made.calico_manifests[f"v{spec.calico}"],
        load=load,
        guest=made.guest,
    )


def _drop_old_images(home: Engine, current: str) -> None:
    """Remove node images of earlier builds but the latest; each is about 1 GB of the cache."""
    repository = current.partition(":")[0]
    listed = run([*home.docker, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository])
    others = [name for name in listed.stdout.split() if name != current]  # newest first
    if others[IMAGES_KEPT:]:
        # Docker refuses those that a container still uses: they go another time.
        run([*home.docker, "image", "rm", *others[IMAGES_KEPT:]], check=False)
