"""What the upgrade gate found, as data: part of ``results.json``."""

from __future__ import annotations

from pydantic import Field

from helpers.model import Verdict
from reports.parts import Part


class GatePart(Part):
    """One part of the gate: a session of its own."""

    name: str
    title: str
    changes: bool = Field(description="the cluster is changed in it; the others look at it")
    command: str = Field(description="repeats it, on a cluster that is there")
    folder: str | None = Field(description="its reports, beside this file; null: it has none")
    seconds: float
    calico: str | None = Field(default=None, description="release that ran when it ended")
    exit_code: int
    exit_reason: str
    complete: bool


class Regression(Part):
    """A verdict that is not as good after the upgrade as it was before."""

    id: str
    family: str
    before: Verdict
    after: Verdict | None = Field(description="null: no longer tested")
    reason: str = ""

    def __str__(self) -> str:
        name = self.id if self.family == "pair" else f"{self.id} [{self.family}]"
        return f"{name}: {self.before} -> {self.after or 'not tested'}"


class Gate(Part):
    """May this version ship?"""

    ships: bool
    old: str | None = Field(description="release before; null: not known")
    new: str | None = Field(description="release after; null: not known")
    parts: tuple[GatePart, ...]
    regressions: tuple[Regression, ...]
    unclear: tuple[str, ...] = Field(default=(), description="what is not a no, and not a yes")
