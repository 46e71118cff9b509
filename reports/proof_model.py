"""What planting faults showed about the suite itself, as data: part of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from reports.parts import Part


class FaultProof(Part):
    """One fault, or one control: what had to be red, and what was."""

    id: str
    title: str
    kind: str
    proved: bool = Field(description="exactly the expected verdicts red, healed, green again")
    compared: bool = Field(description="false: it could not be planted, or no verdicts came")
    must: tuple[str, ...] = ()
    may: Mapping[str, str] = Field(default_factory=dict)
    failed: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    consequences: tuple[str, ...] = Field(default=(), description="undecided because of a red one")
    allowed: tuple[str, ...] = Field(default=(), description="of `may`, red or undecided")
    absent: tuple[str, ...] = Field(default=(), description="of `must`, without a verdict here")
    healed: bool = True
    still_red: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = Field(
        default=(), description="not as expected at the first look, and so at the second"
    )
    error: str = ""
    reasons: Mapping[str, str] = Field(default_factory=dict)
    diagnoses: tuple[str, ...] = Field(default=(), description="rules that were printed")
    rule: str | None = Field(default=None, description="rule that must be printed")
    rules_beside: tuple[str, ...] = Field(
        default=(), description="rules of faults that were planted together with it"
    )
    together: tuple[str, ...] = Field(
        default=(), description="faults that were planted at the same time; seconds are of all"
    )
    seconds: Mapping[str, float] = Field(default_factory=dict)
    sessions: Mapping[str, str] = Field(default_factory=dict)

    @property
    def named(self) -> bool:
        """Whether the expected diagnosis was given, and none of what was not planted."""
        known = {self.rule, *self.rules_beside}
        return self.rule is None or (self.rule in self.diagnoses and known >= {*self.diagnoses})

    @property
    def misnamed(self) -> str:
        """What was diagnosed instead; empty when nothing else was expected."""
        if self.named or not self.compared:
            return ""
        expected = " and ".join([str(self.rule), *self.rules_beside])
        return f"diagnosed {', '.join(self.diagnoses) or 'nothing'}, expected {expected} alone"


class NotPlanted(Part):
    """A fault that this cluster cannot have, and why."""

    id: str
    title: str
    reason: str


class Score(Part):
    """Counts of expected reds (pairs of fault and verdict) and of whole faults."""

    expected: int
    seen: int
    share: float = Field(description="mutation score: seen of expected")
    faults: int
    killed: int = Field(description="faults whose expected verdicts were all red")
    proved: int
    to_name: int = Field(default=0, description="faults with an expected diagnosis")
    named: int = Field(default=0, description="of them: the diagnosis that was expected, alone")
    controls: int
    controls_green: int


class NeverRed(Part):
    """A verdict that no fault of this run turned red, and what is known of it otherwise."""

    verdict: str
    elsewhere: str = Field(
        default="", description="faults that would: on recorded input, or in another profile"
    )


class Proof(Part):
    """A whole run with ``--prove``."""

    seconds: float
    score: Score
    faults: tuple[FaultProof, ...]
    not_planted: tuple[NotPlanted, ...]
    not_green: tuple[str, ...] = Field(
        default=(), description="verdicts that were not green without a fault: they prove nothing"
    )
    never_red: tuple[NeverRed, ...]
