"""Signs: what a rule demands of a run. Each is data with one pure question.

A sign that is there says what it saw and which results show it; one that is not says why, and
whether that is known or was only not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from helpers.model import Family, Verdict
from reports.diagnosis.case import Case, Values, unique
from reports.model import FamilyName
from reports.summarize import Key


@dataclass(frozen=True, slots=True)
class Seen:
    """A sign that is there.

    Attributes:
        evidence: sentences.
        shown_by: results that fail because of it.
        values: what it binds.
    """

    evidence: tuple[str, ...] = ()
    shown_by: tuple[Key, ...] = ()
    values: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """A sign that is not there. ``known``: something that was observed says so."""

    why: str
    known: bool = True


class Sign(Protocol):
    """What a rule demands."""

    def look(self, case: Case, family: Family, bound: Values) -> Seen | Missing:
        """Look for it; ``bound`` is what signs before it have bound."""

    def told(self) -> str:
        """What it demands, for the documentation."""


_NAMES: Final[dict[Family, FamilyName]] = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}


def key_of(case: Case, requirement: str, family: Family) -> Key:
    found = case.result(requirement, family)
    return found.key if found else (requirement, _NAMES[family])


def named(key: Key) -> str:
    """``CONN-002 [ipv6]``, and for a pair ``CFG-001``."""
    return key[0] if key[1] == "pair" else f"{key[0]} [{key[1]}]"


@dataclass(frozen=True, slots=True)
class Finding:
    """A failed requirement says something; groups of the pattern are bound.

    Attributes:
        requirements: any of these may say it.
        pattern: regular expression; ``FAMILY`` in it stands for the family.
        sample: a finding that it matches, with IPv6 for the family.
    """

    requirements: tuple[str, ...]
    pattern: str
    sample: str

    def look(self, case: Case, family: Family, bound: Values) -> Seen | Missing:
        wanted = re.compile(self.pattern.replace("FAMILY", family.kubernetes))
        evidence: list[str] = []
        keys: list[Key] = []
        values: dict[str, list[str]] = {}
        for requirement in self.requirements:
            for sentence in case.findings(requirement, family):
                found = wanted.search(sentence)
                if found is None:
                    continue
                key = key_of(case, requirement, family)
                keys.append(key)
                evidence.append(f"{named(key)}: {sentence}")
                for name, value in found.groupdict().items():
                    values.setdefault(name, []).append(value)
        if not keys:
            return _not_said(case, self.requirements, family)
        bindings = {name: unique(v for v in many if v) for name, many in values.items()}
        return Seen(unique(evidence), tuple(dict.fromkeys(keys)), bindings)

    def told(self) -> str:
        return f"{' or '.join(self.requirements)} fails with such a finding"


def _not_said(case: Case, requirements: tuple[str, ...], family: Family) -> Missing:
    looked = {r: v for r in requirements if (v := case.verdict(r, family)) is not None}
    if not looked:
        return Missing(f"{' and '.join(requirements)} not run", known=False)
    told = ", ".join(
        f"{named(key_of(case, r, family))} "
        + ("fails, with other findings" if verdict is Verdict.FAIL else _WORD[verdict])
        for r, verdict in looked.items()
    )
    return Missing(told, known=any(v in _DECIDED for v in looked.values()))


_DECIDED: Final = (Verdict.PASS, Verdict.FAIL)
_WORD: Final = {
    Verdict.PASS: "passes",
    Verdict.SKIPPED: "is skipped",
    Verdict.BLOCKED: "is blocked",
    Verdict.INCONCLUSIVE: "is inconclusive",
}


def not_broken(case: Case, requirement: str, family: Family) -> Missing:
    """Why a question about the cells of a requirement finds nothing."""
    return _not_said(case, (requirement,), family)


@dataclass(frozen=True, slots=True)
class Fails:
    """At least one of some requirements fails."""

    requirements: tuple[str, ...]

    def look(self, case: Case, family: Family, bound: Values) -> Seen | Missing:
        keys = tuple(key_of(case, r, family) for r in self.requirements if case.failed(r, family))
        if not keys:
            return _not_said(case, self.requirements, family)
        first = (f"{named(key)}: {case.said(key[0], family)}" for key in keys)
        return Seen(tuple(first), keys)

    def told(self) -> str:
        return f"{_any(self.requirements)} fails"


@dataclass(frozen=True, slots=True)
class Holds:
    """None of some requirements fails: what tells this cause from a neighbouring one."""

    requirements: tuple[str, ...]

    def look(self, case: Case, family: Family, bound: Values) -> Seen | Missing:
        failed = [r for r in self.requirements if case.failed(r, family)]
        if failed:
            return Missing(f"{', '.join(named(key_of(case, r, family)) for r in failed)} fails")
        passed = [
            named(key_of(case, r, family)) for r in self.requirements if case.passed(r, family)
        ]
        word = "passes" if len(passed) == 1 else "pass"
        return Seen((f"{', '.join(passed)} {word}",) if passed else ())

    def told(self) -> str:
        if len(self.requirements) == 1:
            return f"{self.requirements[0]} does not fail"
        return f"none of {', '.join(self.requirements)} fails"


Question = Callable[[Case, Family, Values], Seen | Missing]


@dataclass(frozen=True, slots=True)
class Fact:
    """A pure function over the run's facts or cells."""

    says: str
    question: Question

    def look(self, case: Case, family: Family, bound: Values) -> Seen | Missing:
        return self.question(case, family, bound)

    def told(self) -> str:
        return self.says


@dataclass(frozen=True, slots=True)
class Extra:
    """A sign that sharpens the words when it is there; the rule holds without it.

    Attributes:
        unless: what its values are when it is not there.
    """

    sign: Sign
    unless: Mapping[str, str] = field(default_factory=dict)

    def look(self, case: Case, family: Family, bound: Values) -> Seen | Missing:
        found = self.sign.look(case, family, bound)
        if isinstance(found, Missing):
            return Seen(values={name: (text,) for name, text in self.unless.items()})
        return found

    def told(self) -> str:
        return f"(sharper when {self.sign.told()})"


def _any(requirements: tuple[str, ...]) -> str:
    return requirements[0] if len(requirements) == 1 else f"one of {', '.join(requirements)}"
