"""Errors of everything below a cluster: each says what happened and the exact next step.

ClusterError
├── CommandFailedError   a tool ended with an error; carries the end of its output
├── EngineError          no Docker engine can be had
├── PreflightError       the machine lacks something; lists all of it
└── UnusableError        no usable cluster (exit code 4)
"""

from __future__ import annotations


class ClusterError(Exception):
    """Something about having a cluster failed; the message is for the person at the terminal."""


class CommandFailedError(ClusterError):
    """A tool ended with an error, did not end in time, or is not there."""


class EngineError(ClusterError):
    """No Docker engine can be had; the message says why and what to do."""


class PreflightError(ClusterError):
    """The machine lacks something that the run needs; the message lists all of it with fixes."""


class UnusableError(ClusterError):
    """There is no usable cluster for this run; the process that ends with it exits with 4."""
