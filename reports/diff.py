"""What changed between two runs, requirement by requirement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from helpers.model import Verdict
from reports.model import RequirementResult, Results
from reports.summarize import Key

ALARM: Final = {verdict: rank for rank, verdict in enumerate(Verdict)}


class Change(StrEnum):
    WORSE = "worse"
    GONE = "no longer tested"
    BETTER = "better"
    NEW = "newly tested"


@dataclass(frozen=True, slots=True)
class Difference:
    """One requirement in one family whose verdict is not what it was; None: not tested."""

    key: Key
    old: RequirementResult | None
    new: RequirementResult | None

    @property
    def change(self) -> Change:
        if self.old is None:
            return Change.NEW
        if self.new is None:
            return Change.GONE
        worse = ALARM[self.new.verdict] > ALARM[self.old.verdict]
        return Change.WORSE if worse else Change.BETTER

    @property
    def regression(self) -> bool:
        """Worse, or gone: what is no longer tested may be broken."""
        return self.change in (Change.WORSE, Change.GONE)

    def line(self) -> str:
        name = self.key[0] if self.key[1] == "pair" else f"{self.key[0]} [{self.key[1]}]"
        old = self.old.verdict.value if self.old else "not tested"
        new = self.new.verdict.value if self.new else "not tested"
        reason = self.new.reason.splitlines()[0] if self.new and self.new.reason else ""
        return f"{self.change:<17} {name:<18} {old} -> {new}" + (f"  ({reason})" if reason else "")


def differences(old: Results, new: Results) -> list[Difference]:
    """Verdicts that differ: regressions first, then in the order of the file."""
    before, after = _by_key(old), _by_key(new)
    found = [
        Difference(key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])
    ]
    changed = [d for d in found if _verdict(d.old) != _verdict(d.new)]
    return sorted(changed, key=lambda d: not d.regression)


def _verdict(result: RequirementResult | None) -> Verdict | None:
    return result.verdict if result else None


def _by_key(results: Results) -> Mapping[Key, RequirementResult]:
    return {result.key: result for result in results.requirements}
