"""Writes container images as one OCI archive, from tar layers, without a container engine.

Layers are not compressed: containerd unpacks them at once and drops the archive's blobs.
Source: OCI image specification 1.1 (image-layout.md, manifest.md, config.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
NAME_ANNOTATION = "io.containerd.image.name"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Layer:
    """A tar file that is one layer of an image: its size in bytes and its digest."""

    path: Path
    size: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> Layer:
        """Measures a tar file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path=path, size=path.stat().st_size, digest=f"sha256:{digest}")


@dataclass(frozen=True, slots=True)
class Item:
    """A member of a layer: exactly one of source (a file to copy), text, link, or a directory."""

    name: str
    source: Path | None = None
    text: str | None = None
    symlink: str | None = None
    hardlink: str | None = None
    mode: int = 0o755
    uid: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """A container image: its full reference, layers from the bottom up, and how it is run."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"

    def config(self, architecture: str) -> dict[str, object]:
        """The image configuration that a container runtime reads."""
        environment = {"PATH": DEFAULT_PATH, **self.env}
        return {
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.cmd),
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "User": self.user,
                "WorkingDir": self.working_dir,
                # Two images of the same layers must still be two images.
                "Labels": {"org.opencontainers.image.ref.name": self.name},
            },
            "rootfs": {"type": "layers", "diff_ids": [each.digest for each in self.layers]},
        }


def write_layer(items: Iterable[Item], target: Path) -> Layer:
    """Writes a layer; the same items give the same digest (times, owners and order are fixed)."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        seen: set[str] = set()
        for item in items:
            for parent in reversed(Path(item.name).parents):
                if str(parent) != "." and str(parent) not in seen:
                    seen.add(str(parent))
                    archive.addfile(_header(Item(str(parent)), tarfile.DIRTYPE))
            seen.add(item.name)
            _add(archive, item)
    return Layer.of(target)


def _add(archive: tarfile.TarFile, item: Item) -> None:
    if item.source is not None:
        header = _header(item, tarfile.REGTYPE)
        header.size = item.source.stat().st_size
        with item.source.open("rb") as file:
            archive.addfile(header, file)
    elif item.text is not None:
        data = item.text.encode()
        header = _header(item, tarfile.REGTYPE)
        header.size = len(data)
        archive.addfile(header, io.BytesIO(data))
    elif item.symlink is not None:
        header = _header(item, tarfile.SYMTYPE)
        header.linkname = item.symlink
        archive.addfile(header)
    elif item.hardlink is not None:
        header = _header(item, tarfile.LNKTYPE)
        header.linkname = item.hardlink
        archive.addfile(header)
    else:
        archive.addfile(_header(item, tarfile.DIRTYPE))


def _header(item: Item, kind: bytes) -> tarfile.TarInfo:
    header = tarfile.TarInfo(item.name)
    header.type = kind
    header.mode = item.mode
    header.uid = header.gid = item.uid
    return header


def write_archive(images: Sequence[Image], architecture: str, target: Path) -> dict[str, str]:
    """Writes all images to one OCI archive; shared layers are in it once.

    Returns the manifest digest of each image by its name.
    """
    digests: dict[str, str] = {}
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, Item("oci-layout", text=_json({"imageLayoutVersion": "1.0.0"})))
        layers = {each.digest: each for image in images for each in image.layers}
        for layer in layers.values():
            _add(archive, Item(_blob(layer.digest), source=layer.path, mode=0o644))
        descriptors = []
        for image in images:
            config = _add_blob(archive, CONFIG_TYPE, image.config(architecture))
            manifest = _add_blob(archive, MANIFEST_TYPE, {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": config,
                "layers": [
                    {"mediaType": LAYER_TYPE, "size": each.size, "digest": each.digest}
                    for each in image.layers
                ],
            })  # fmt: skip
            digests[image.name] = str(manifest["digest"])
            platform = {"architecture": architecture, "os": "linux"}
            named = {"platform": platform, "annotations": {NAME_ANNOTATION: image.name}}
            descriptors.append({**manifest, **named})
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": descriptors}
        _add(archive, Item("index.json", text=_json(index)))
    return digests


def _add_blob(archive: tarfile.TarFile, media: str, content: object) -> dict[str, object]:
    text = _json(content)
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    _add(archive, Item(_blob(digest), text=text, mode=0o644))
    return {"mediaType": media, "size": len(text.encode()), "digest": digest}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(content: object) -> str:
    return json.dumps(content, sort_keys=True)
