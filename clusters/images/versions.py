"""The pinned versions (versions.yaml) as validated, typed data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from clusters.images.errors import ImageBuildError

HERE = Path(__file__).resolve().parent
VERSIONS_FILE = HERE / "versions.yaml"
GO_FOLDER = HERE / "go"

Version = Annotated[str, StringConstraints(pattern=r"^v\d+(\.\d+){0,2}$")]
Entry = TypeVar("Entry")
RelativePath = Annotated[str, StringConstraints(pattern=r"^[^/].*[^/]$")]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Component(_Data):
    """A Go module of ours that pins upstream sources, and the programs to build from it."""

    version: Version
    folder: RelativePath
    module: str | None = None
    """Upstream module whose files (manifests, templates) the build reads; None: our own code."""
    programs: Mapping[str, str]
    ldflags: tuple[str, ...] = ()
    files: tuple[RelativePath, ...] = ()
    """Files and directories of the upstream module that the images contain."""

    @property
    def path(self) -> Path:
        """Folder that holds go.mod, go.sum and, for our own programs, Go files."""
        return GO_FOLDER / self.folder


class KubernetesVersion(_Data):
    """A Kubernetes release: its component and the image names that kubeadm expects."""

    component: str
    images: Mapping[str, str]
    upstream_node_image: str


class CalicoVersion(_Data):
    """A Calico release: its component and the prefix of the image names in its manifest."""

    component: str
    image_prefix: str


class KubernetesVersions(_Data):
    """The Kubernetes releases that can be built."""

    default: Version
    versions: Mapping[Version, KubernetesVersion]


class CalicoVersions(_Data):
    """The Calico releases that can be built."""

    default: Version
    versions: Mapping[Version, CalicoVersion]


class ExtractedPackage(_Data):
    """Files taken from a Debian package of another suite without installing it."""

    package: str
    suite: str
    files: tuple[RelativePath, ...]


class Debian(_Data):
    """The Debian root file system of the node."""

    suite: str
    packages: tuple[str, ...]
    extracted: tuple[ExtractedPackage, ...]
    node_only: tuple[str, ...]


class GuestKernel(_Data):
    """The kernel source of guest nodes: a Debian package and the suite that has it."""

    package: str
    suite: str


class Guest(_Data):
    """Nodes with a kernel of their own."""

    kernel: GuestKernel


class Versions(_Data):
    """Everything that versions.yaml pins."""

    schema_version: int = Field(alias="schema")
    kubernetes: KubernetesVersions
    calico: CalicoVersions
    components: Mapping[str, Component]
    debian: Debian
    guest: Guest

    @model_validator(mode="after")
    def _names_resolve(self) -> Versions:
        for title, group in (("kubernetes", self.kubernetes), ("calico", self.calico)):
            if group.default not in group.versions:
                raise ValueError(f"{title}.default {group.default} is not in {title}.versions")
            for version, entry in group.versions.items():
                if entry.component not in self.components:
                    raise ValueError(
                        f"{title}.versions.{version}.component: "
                        f"{entry.component} is not in components"
                    )
        return self

    def kubernetes_version(self, version: str) -> KubernetesVersion:
        """The entry of a Kubernetes release.

        Raises:
            ImageBuildError: it is not pinned; the message lists those that are.
        """
        return _known("Kubernetes", version, self.kubernetes.versions)

    def calico_version(self, version: str) -> CalicoVersion:
        """The entry of a Calico release.

        Raises:
            ImageBuildError: it is not pinned; the message lists those that are.
        """
        return _known("Calico", version, self.calico.versions)


def _known(product: str, version: str, entries: Mapping[str, Entry]) -> Entry:
    if version not in entries:
        raise ImageBuildError(
            f"{product} {version} cannot be built: it is not pinned. Ask for one of "
            f"{', '.join(entries)}, or add it to {VERSIONS_FILE}."
        )
    return entries[version]


def load_versions(path: Path = VERSIONS_FILE) -> Versions:
    """Reads and checks the versions file.

    Raises:
        ImageBuildError: the file is not valid; the message names each wrong field.
    """
    try:
        return Versions.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        fields = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors()
        )
        raise ImageBuildError(f"{path} is not valid: {fields}.") from error


@functools.cache
def pinned() -> Versions:
    """The versions of the repository, read once."""
    return load_versions()
