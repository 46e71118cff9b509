"""Puts everything that was built together: images, node root file system, clients, record."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clusters.images import components, debian, node, oci, unpack
from clusters.images.api import ImageRequest
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children
from clusters.images.versions import Versions

SECONDS_FILE = "seconds"
"""In each step's directory: how long it took when it was made."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Assembly:
    """The last step of a build: what it is made of.

    `inputs` are the directories of the built Go components, `debian` that of the root file system.
    """

    request: ImageRequest
    versions: Versions
    inputs: Mapping[str, Path]
    debian: Path
    key: str

    def make(self, children: Children, target: Path, log: Path) -> None:
        """Fills `target` with rootfs.tar, bin/, manifests/ and manifest.json.

        Raises:
            ImageBuildError: what was built does not fit together.
            StepFailedError: a command failed.
        """
        begin = time.monotonic()
        root, work = target / "root", target / "work"
        root.mkdir()
        work.mkdir()
        archive = str(self.debian / "root.tar")
        children.run(
            [*debian.TAR, "--preserve-permissions", "--extract", f"--file={archive}",
             f"--directory={root}"],
            log,
        )  # fmt: skip
        images = self._images(children, root, work, log)
        digests = oci.write_archive(images, architecture(), work / "images.tar")
        programs = unpack.Programs(
            self.inputs["containerd"] / "bin/containerd", self.inputs["containerd"] / "bin/ctr"
        )
        names = [each.name for each in images]
        unpack.unpack(children, programs, work / "images.tar", names, root, log)
        shutil.rmtree(work)
        kubernetes = self.versions.kubernetes_version(self.request.kubernetes)
        parts = node.NodeParts(
            components=self.inputs,
            kubernetes=kubernetes.component,
            version=self.request.kubernetes,
            pause_image=kubernetes.images["pause"],
        )
        node.install(children, parts, root, log)
        node.share_equal_files(root)
        node.pack(children, root, target / "rootfs.tar", log)
        self._clients(target, kubernetes.component)
        self._record(target, digests, time.monotonic() - begin)

    def _images(self, children: Children, root: Path, work: Path, log: Path) -> list[oci.Image]:
        tools = work / "tools.tar"
        node.tools_layer(children, root, self.debian / "node-only.txt", tools, log)
        parts = components.Parts(self.inputs, self.debian / "extracted", oci.Layer.of(tools), work)
        kubernetes = self.versions.kubernetes_version(self.request.kubernetes)
        images = [
            components.agent_image(parts),
            *components.kubernetes_images(parts, kubernetes),
        ]
        for version in self.request.calico:
            pin = self.versions.calico_version(version)
            built = components.calico_images(parts, pin.component, version, pin.image_prefix)
            manifest = self.inputs[pin.component] / "files/manifests/calico.yaml"
            components.check_manifest_images(manifest, built)
            images.extend(built)
        return images

    def _clients(self, target: Path, kubernetes: str) -> None:
        (target / "bin").mkdir()
        shutil.copy(self.inputs["kind"] / "bin/kind", target / "bin/kind")
        os.link(self.inputs[kubernetes] / "bin/kubernetes", target / "bin/kubectl")
        for version in self.request.calico:
            component = self.versions.calico_version(version).component
            source = self.inputs[component] / "files/manifests/calico.yaml"
            (target / "manifests").mkdir(exist_ok=True)
            shutil.copy(source, target / "manifests" / f"calico-{version}.yaml")

    def _record(self, target: Path, digests: Mapping[str, str], seconds: float) -> None:
        built = {
            name: {
                "version": self.versions.components[name].version,
                **json.loads((path / "go.json").read_text()),
            }
            for name, path in self.inputs.items()
        }
        extracted = {
            path.stem: path.read_text() for path in (self.debian / "extracted").glob("*.version")
        }
        agent = next(name for name in digests if name.startswith("dsc.local/agent:"))
        record = {
            "schema": 1,
            "key": self.key,
            "kubernetes": self.request.kubernetes,
            "calico": list(self.request.calico),
            "architecture": architecture(),
            "components": built,
            "debian": {
                "suite": self.versions.debian.suite,
                "packages": json.loads((self.debian / "packages.json").read_text()),
                "extracted": extracted,
            },
            "images": dict(digests),
            "agent_image": agent,
            "rootfs_bytes": (target / "rootfs.tar").stat().st_size,
            "seconds": {**self._seconds(), "node": round(seconds, 1)},
        }
        (target / "manifest.json").write_text(json.dumps(record, indent=1, sort_keys=True))

    def _seconds(self) -> dict[str, float]:
        """How long each input took when it was built, which may have been in another run."""
        entries = {**self.inputs, "debian": self.debian}
        return {name: float((path / SECONDS_FILE).read_text()) for name, path in entries.items()}


def architecture() -> str:
    """This machine's architecture as images name it.

    Raises:
        ImageBuildError: images cannot be built for it.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise ImageBuildError(
            f"Images cannot be built on {machine}. Use a machine of one of these: "
            f"{', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[machine]
