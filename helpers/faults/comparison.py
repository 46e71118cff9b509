"""Expected against observed: which verdicts a fault turned red, which it should have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from helpers.faults.expectations import Expectation, Key, keys_of
from helpers.model import Verdict
from helpers.requirements import requirements

UNDECIDED: Final = (Verdict.BLOCKED, Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Seen:
    """One verdict, its reason, and the requirement that blocks it if one does."""

    verdict: Verdict
    reason: str = ""
    blocked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a fault did to the verdicts.

    Attributes:
        failed: red, expected or not.
        missed: must be red and is not.
        surplus: neither must nor may be red, and is, or could not be decided without a cause among
            the failed ones.
        consequences: undecided, because of a requirement that failed.
        allowed: of the ``may`` set, red or undecided.
        absent: must be red and has no verdict here: not tested, skipped, or not green before.
    """

    failed: frozenset[Key]
    missed: frozenset[Key]
    surplus: frozenset[Key]
    consequences: frozenset[Key] = field(default_factory=frozenset)
    allowed: frozenset[Key] = field(default_factory=frozenset)
    absent: frozenset[Key] = field(default_factory=frozenset)

    @property
    def exact(self) -> bool:
        return not self.missed and not self.surplus

    @property
    def killed(self) -> bool:
        """Whether the fault was noticed as it should be: all that must be red was."""
        return not self.missed


def compare(row: Expectation, seen: Mapping[Key, Seen], ignored: Iterable[Key] = ()) -> Comparison:
    """Compare one run under a fault with what is expected.

    Args:
        ignored: verdicts that were not green without the fault, so they prove nothing.
    """
    out = frozenset(ignored)
    told = {key: it for key, it in seen.items() if key not in out}
    must = {key for key in row.must if key in told and told[key].verdict is not Verdict.SKIPPED}
    failed = {key for key, it in told.items() if it.verdict is Verdict.FAIL}
    undecided = {key for key, it in told.items() if it.verdict in UNDECIDED}
    causes = {name for name, _ in failed} | _expected_causes(row)
    consequences = {key for key in undecided if _cause(told[key], told, causes)}
    missed = must - failed
    unexpected = (failed | (undecided - consequences)) - must - row.may.keys()
    return Comparison(
        failed=frozenset(failed),
        missed=frozenset(missed),
        surplus=frozenset(unexpected),
        consequences=frozenset(consequences - must),
        allowed=frozenset((failed | undecided) & row.may.keys()),
        absent=frozenset(set(row.must) - must),
    )


def _expected_causes(row: Expectation) -> set[str]:
    """Requirements that may be named as a cause although this run has no verdict of them."""
    return {name for name, _ in row.must}


def _cause(it: Seen, told: Mapping[Key, Seen], causes: set[str]) -> bool:
    """Whether an undecided verdict names a failed requirement, perhaps over another blocked one."""
    name, passed = it.blocked_by, set[str]()
    while name is not None and name not in passed:
        if name in causes:
            return True
        passed.add(name)
        name = _next_cause(name, told)
    return False


def _next_cause(name: str, told: Mapping[Key, Seen]) -> str | None:
    known = requirements().get(name)
    for key in keys_of(known) if known else ():
        if key in told and told[key].blocked_by:
            return told[key].blocked_by
    return None


@dataclass(frozen=True, slots=True)
class Score:
    """How many planted reds were seen: pairs of fault and verdict, and whole faults."""

    pairs: int
    seen: int
    faults: int
    killed: int
    exact: int

    @property
    def share(self) -> float:
        """Mutation score: the share of expected reds that were seen; 0 when nothing was planted."""
        return self.seen / self.pairs if self.pairs else 0.0


def score(found: Iterable[tuple[Expectation, Comparison]]) -> Score:
    """Count faults; controls have nothing to turn red and are not counted."""
    faults = [(row, it) for row, it in found if row.kind == "fault"]
    pairs = sum(len(row.must) - len(it.absent) for row, it in faults)
    missed = sum(len(it.missed) for _, it in faults)
    return Score(
        pairs=pairs,
        seen=pairs - missed,
        faults=len(faults),
        killed=sum(it.killed for _, it in faults),
        exact=sum(it.exact for _, it in faults),
    )
