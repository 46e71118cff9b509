"""What a build is asked for and what it gives."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clusters.images.cache import KEY_LENGTH
from clusters.images.versions import pinned


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Which versions the images are to hold: one Kubernetes, one or more Calico releases.

    Versions are written as their tags ("v1.36.4"); the order of Calico releases has no meaning.
    `guest`: also the kernel and the disk of nodes with a kernel of their own.
    """

    kubernetes: str = field(default_factory=lambda: pinned().kubernetes.default)
    calico: tuple[str, ...] = field(default_factory=lambda: (pinned().calico.default,))
    guest: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "calico", tuple(sorted(set(self.calico), key=_release)))


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """What guest nodes are made of: their kernel, a program, and the disk that they share."""

    kernel: Path
    disk: Path


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A finished build: files in the cache, and the names that its images have."""

    key: str
    """Hash of everything that went into it."""
    node_image: str
    """Docker reference of the node image, after load_into_docker."""
    node_rootfs: Path
    """Tar of the node's root file system."""
    node_changes: tuple[str, ...]
    """`docker import --change` values that make it a node image."""
    agent_image: str
    """Image in every node's containerd (imagePullPolicy: Never): Python, scapy, pyroute2."""
    outside_image: str
    """Docker reference for a container outside the cluster; the node image itself."""
    kind_binary: Path
    kubectl_binary: Path | None
    calico_manifests: Mapping[str, Path]
    """Calico release -> upstream's own manifests/calico.yaml."""
    manifest: Path
    """JSON: versions and hashes of all parts, packages, image digests."""
    guest: GuestFiles | None = None
    """None where the request did not ask for it."""


def read_image_set(
    entry: Path, changes: tuple[str, ...], guest: GuestFiles | None = None
) -> ImageSet:
    """The image set of a complete `node` directory of the cache."""
    record = json.loads((entry / "manifest.json").read_text())
    name = f"dsc-node:{record['key'][:KEY_LENGTH]}"
    return ImageSet(
        key=record["key"],
        node_image=name,
        node_rootfs=entry / "rootfs.tar",
        node_changes=changes,
        agent_image=record["agent_image"],
        outside_image=name,
        kind_binary=entry / "bin/kind",
        kubectl_binary=entry / "bin/kubectl",
        calico_manifests={
            version: entry / "manifests" / f"calico-{version}.yaml" for version in record["calico"]
        },
        manifest=entry / "manifest.json",
        guest=guest,
    )
