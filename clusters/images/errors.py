"""Errors of the image build: each says what happened and the exact next step."""

from __future__ import annotations

from clusters.errors import ClusterError


class ImageBuildError(ClusterError):
    """An image could not be built, for a reason that the person running the build can mend.

    The message is one or two sentences: what happened, then what to do.
    """


class StepFailedError(ImageBuildError):
    """A step's command failed; the message carries the end of its log and where the log is."""


class CancelledError(ImageBuildError):
    """The build is being ended, so no further command is started."""

    def __init__(self) -> None:
        super().__init__("The image build was cancelled.")
