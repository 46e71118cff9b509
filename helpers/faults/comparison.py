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
    causes = {name for name, _ in failed} | {name for name, _ in row.must}
    consequences = {key for key in undecided if root_cause(told[key], told, causes)}
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


def root_cause(it: Seen, told: Mapping[Key, Seen], causes: set[str]) -> str | None:
    """The failed requirement that an undecided verdict names, perhaps over other blocked ones."""
    name, passed = it.blocked_by, set[str]()
    while name is not None and name not in passed:
        if name in causes:
            return name
        passed.add(name)
        name = _next_cause(name, told)
    return None


def _next_cause(name: str, told: Mapping[Key, Seen]) -> str | None:
    known = requirements().get(name)
    for key in keys_of(known) if known else ():
        if key in told and told[key].blocked_by:
            return told[key].blocked_by
    return None


def share(whole: Comparison, row: Expectation, seen: Mapping[Key, Seen]) -> Comparison:
    """The part of one fault in an exact comparison of several that were planted together."""
    causes = {name for name, _ in row.must}
    mine = {*row.must, *row.may}
    return Comparison(
        failed=whole.failed & mine,
        missed=frozenset(),
        surplus=frozenset(),
        consequences=frozenset(k for k in whole.consequences if root_cause(seen[k], seen, causes)),
        allowed=whole.allowed & mine,
        absent=whole.absent & mine,
    )
