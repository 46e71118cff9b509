"""Images from registries: kind's node image, Calico's own, and a small agent image.

kind itself and Calico's manifest come from their Go modules, as for built images: they are small,
and their versions and hashes are pinned in the same place.
"""

from __future__ import annotations

from clusters.commands import Progress
from clusters.engine import Engine
from clusters.kind import NodeImages
from clusters.spec import ClusterSpec


def reachable(home: Engine, spec: ClusterSpec) -> bool:
    raise NotImplementedError


def node_images(spec: ClusterSpec, progress: Progress) -> NodeImages:
    raise NotImplementedError
