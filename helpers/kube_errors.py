"""How calls to the Kubernetes API fail."""

from __future__ import annotations


class KubeError(Exception):
    """The API could not be reached at all."""


class ApiError(KubeError):
    """The API answered with an error.

    Attributes:
        status: HTTP status code.
        reason: machine-readable reason of the Status object, e.g. ``Invalid``.
        message: the API server's own sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        super().__init__(f"{status} {reason}: {message}")
