"""Clusters that exist already: somebody else's. Nothing is created here, and nothing is deleted
but what carries this product's label."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clusters.api import Cluster
from clusters.commands import Progress
from clusters.errors import UnusableError
from clusters.records import Intent
from clusters.spec import ClusterSpec
from helpers.kube import Kube, KubeError
from helpers.naming import MANAGED_BY

DEFAULT_KUBECONFIG: Final = Path("~/.kube/config")
# The agent is one file of Python's standard library, so that any image with Python 3.9 will do.
AGENT_IMAGE: Final = "docker.io/library/python:3.13-slim"
ANSWER_SECONDS: Final = 10.0


def kubeconfig_path(option: str | None) -> Path:
    """The kubeconfig to use: the option, $KUBECONFIG, or kubectl's default.

    Raises:
        UnusableError: there is no such file, or KUBECONFIG lists several.
    """
    text = option or os.environ.get("KUBECONFIG") or str(DEFAULT_KUBECONFIG)
    if os.pathsep in text:
        raise UnusableError(
            f"KUBECONFIG={text} lists several files: name one with --kubeconfig FILE."
        )
    path = Path(text).expanduser()
    if not path.is_file():
        raise UnusableError(
            f"There is no kubeconfig {path}: name one with --kubeconfig FILE (and --context NAME), "
            "or leave out --cluster=existing to have a cluster made."
        )
    return path.absolute()


@dataclass(frozen=True, slots=True)
class ExistingProvider:
    """A cluster that a kubeconfig names."""

    kubeconfig: Path
    context: str | None = None
    agent_image: str = AGENT_IMAGE

    @property
    def kind(self) -> str:
        return "existing"

    @property
    def engine(self) -> Mapping[str, Any]:
        return {"kubeconfig": str(self.kubeconfig), "context": self.context, "private": False}

    def create(self, name: str, spec: ClusterSpec, folder: Path, progress: Progress) -> Cluster:
        """Describe the cluster, after asking whether it answers.

        Raises:
            UnusableError: it does not.
        """
        server = answering(self.kubeconfig, self.context)
        progress(f"existing cluster at {server}")
        shared = folder / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        return Cluster(
            name=name,
            kubeconfig=self.kubeconfig,
            context=self.context,
            spec=spec,
            owned=False,
            agent_image=self.agent_image,
            agent_image_pull_policy="IfNotPresent",
            outside=None,
            state=shared,
        )


def answering(kubeconfig: Path, context: str | None) -> str:
    """Version of the API server that answers, with where it was named.

    Raises:
        UnusableError: none does; one sentence.
    """
    named = f"context {context} of {kubeconfig}" if context else f"{kubeconfig}"
    try:
        kube = Kube(kubeconfig, context)
        version = kube.request("GET", "/version", timeout=ANSWER_SECONDS, attempts=1)
    except KubeError as error:
        raise UnusableError(
            f"No cluster answers at {named}: {error}. Check it with "
            f"`kubectl --kubeconfig {kubeconfig} version`."
        ) from error
    return f"{named} ({version.get('gitVersion', 'unknown version')})"


def remove(intent: Intent, progress: Progress) -> None:
    """Delete the namespaces that carry our label; the cluster deletes what is in them."""
    kubeconfig, context = Path(intent.engine["kubeconfig"]), intent.engine["context"]
    selector = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
    try:
        kube = Kube(kubeconfig, context)
        names = [n["metadata"]["name"] for n in kube.objects("v1", "Namespace", selector=selector)]
        for name in names:
            progress(f"deleting namespace {name} of {kubeconfig}")
            kube.delete("v1", "Namespace", name)
    except KubeError as error:
        progress(f"namespaces with label {selector} may be left in {kubeconfig}: {error}")
