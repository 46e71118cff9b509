"""Another Calico on a cluster that runs: upstream's manifest through the renderer that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters import calico, registry, sources
from clusters.api import Cluster, Progress
from clusters.commands import silent
from clusters.render_calico import PullPolicy
from clusters.spec import ClusterSpec, Version
from helpers.kube import Kube

Change = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Another release for one cluster, ready to be applied.

    Attributes:
        spec: what the cluster is declared to be from then on.
        manifest: upstream's, of the new release.
        change: what is wrong with this upgrade: the documents to apply, to be changed in place.
    """

    cluster: Cluster
    spec: ClusterSpec
    manifest: Path
    change: Change | None = None

    @property
    def old(self) -> Version:
        return self.cluster.spec.calico

    @property
    def new(self) -> Version:
        return self.spec.calico

    def __str__(self) -> str:
        return f"Calico {self.old} to {self.new}"

    def apply(self, kube: Kube, progress: Progress = silent) -> None:
        """Apply the manifest. Does not wait for anything to run.

        The declaration goes first: a run that ends in between finds a cluster that is not what it
        should be, instead of one that looks as if nothing had happened.

        Raises:
            ManifestError: the manifest cannot be rendered.
            KubeError: the API refused an object.
        """
        registry.redeclare(self.cluster, self.spec)
        policy: PullPolicy = "Never" if built_here(self.cluster) else "IfNotPresent"
        calico.install(
            kube, self.manifest, self.spec, progress, pull_policy=policy, change=self.change
        )


def built_here(cluster: Cluster) -> bool:
    """Whether its nodes can run only the images that they were made with."""
    return cluster.agent_image_pull_policy == "Never"


def prepared(cluster: Cluster, version: Version, change: Change | None = None) -> Upgrade:
    """An upgrade, or a way back: both are a manifest that is applied.

    Raises:
        ClusterError: the manifest cannot be had, or the nodes have no images of the release.
        SpecError: the release does not support the profile.
    """
    spec = cluster.spec
    others = [v for v in (spec.calico, *spec.calico_upgrades) if v != version]
    manifest = sources.calico_manifest(spec, version, built_here=built_here(cluster))
    declared = spec.changed(calico=str(version), calico_upgrades=[str(v) for v in others])
    return Upgrade(cluster, declared, manifest, change)
