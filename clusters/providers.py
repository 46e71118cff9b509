"""The ways to have a cluster that the registry is given: made by kind, or there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters import kind, sources
from clusters.api import Cluster
from clusters.commands import Progress
from clusters.engine import Engine
from clusters.sources import ImageSource
from clusters.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class KindProvider:
    """Makes clusters with kind in an engine, from built or pulled images."""

    home: Engine
    source: ImageSource = ImageSource.AUTO

    @property
    def kind(self) -> str:
        return "kind"

    @property
    def engine(self) -> Mapping[str, Any]:
        return {
            "docker": list(self.home.docker),
            "private": self.home.private,
            "namespace": self.home.namespace,
        }

    def create(self, name: str, spec: ClusterSpec, folder: Path, progress: Progress) -> Cluster:
        """Make a cluster; see ``clusters.kind.create``.

        Raises:
            ClusterError: it could not be made.
        """
        images = sources.node_images(spec, self.home, self.source, progress)
        return kind.create(name, spec, images, self.home, folder, progress)
