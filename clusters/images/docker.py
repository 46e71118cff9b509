"""Hands the node image to a Docker engine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from clusters.commands import output, run
from clusters.errors import CommandFailedError
from clusters.images.api import ImageSet
from clusters.images.errors import ImageBuildError
from clusters.images.node import STOP_SIGNAL

SECONDS = 600.0  # 8 s on an idle machine; a slow disk must not fail it


def load_into_docker(images: ImageSet, docker: Sequence[str]) -> None:
    """Imports the node image into the engine that `docker` (an argument prefix) speaks to.

    Does nothing when the engine has it. The image's name contains the hash of its inputs, so a
    name that is there is the right image; it is given last, so an interrupted load leaves none.

    Raises:
        ImageBuildError: the engine cannot be reached, or refused the image.
    """
    inspect = [*docker, "image", "inspect", "--format", "{{.Id}}", images.node_image]
    if run(inspect, check=False).returncode == 0:
        return
    changes = [part for each in images.node_changes for part in ("--change", each)]
    try:
        imported = _long([*docker, "import", *changes, str(images.node_rootfs)])
        # `docker import` refuses STOPSIGNAL as a change; a container's own is kept by a commit.
        container = _long([*docker, "create", "--stop-signal", STOP_SIGNAL, imported])
        try:
            _long([*docker, "commit", container, images.node_image])
        finally:
            _long([*docker, "rm", container])
    except CommandFailedError as error:
        raise ImageBuildError(
            f"Docker did not take the node image. Check that the engine runs "
            f"(`{shlex.join([*docker, 'info'])}`) and has 3 GiB of free disk space.\n{error}"
        ) from error


def _long(argv: Sequence[str]) -> str:
    return output(argv, timeout=SECONDS)
