"""How a test says something other than pass or fail.

``raise Blocked(...)`` when an earlier requirement failed, ``raise Inconclusive(...)`` when the
probe could not run. A plain AssertionError is a fail. Anything else that escapes a test is a
defect of the harness and is reported as inconclusive, never as pass.
"""

from __future__ import annotations

from helpers.model import Family


class Undecided(Exception):  # noqa: N818  # a verdict, not an error
    """The requirement could not be decided; subclasses say which kind."""


class Blocked(Undecided):
    """An earlier requirement failed, so this one cannot be decided.

    Args:
        by: id of the requirement that failed, e.g. ``PODIP-002``.
        reason: what was observed of it.
        family: the family that is blocked, None for both.
    """

    def __init__(self, by: str, reason: str, family: Family | None = None) -> None:
        self.by = by
        self.reason = reason
        self.family = family
        where = f" [{family}]" if family else ""
        super().__init__(f"blocked by {by}{where}: {reason}")


class Inconclusive(Undecided):
    """The probe itself could not run (agent lost, capture failed, control probe failed)."""
