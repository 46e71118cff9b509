"""Hands the node image to a Docker engine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from clusters.images.api import ImageSet
from clusters.images.errors import ImageBuildError


def load_into_docker(images: ImageSet, docker: Sequence[str]) -> None:
    """Imports the node image into the engine that `docker` (an argument prefix) speaks to.

    Does nothing when the engine has it. The image's name contains the hash of its inputs, so a
    name that is there is the right image.

    Raises:
        ImageBuildError: the engine cannot be reached, or refused the image.
    """
    inspect = [*docker, "image", "inspect", "--format", "{{.Id}}", images.node_image]
    if subprocess.run(inspect, capture_output=True, check=False).returncode == 0:
        return
    changes = [part for each in images.node_changes for part in ("--change", each)]
    arguments = [*docker, "import", *changes, str(images.node_rootfs), images.node_image]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageBuildError(
            f"Docker did not take the node image: {done.stderr.strip()}. Check that the engine "
            f"runs (`{' '.join(docker)} info`) and has 3 GiB of free disk space."
        )
