"""What a rule is, and what it found in a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from string import Formatter
from typing import Final

from helpers.model import Family
from reports.diagnosis.case import Case, Values, unique
from reports.diagnosis.signs import Missing, Sign
from reports.summarize import Key


class Depth(IntEnum):
    """How near to the cause a rule looks; the deeper one wins."""

    TRAFFIC = 1  # packets are lost, and where
    STATE = 2  # what a component or kernel holds is wrong
    SETTING = 3  # what an operator wrote is wrong


def ids(text: str) -> tuple[str, ...]:
    """Requirements, written as words."""
    return tuple(text.split())


@dataclass(frozen=True, slots=True)
class Rule:
    """A named cause.

    Attributes:
        name: stays the same for ever; results.json has it.
        faults: seeded faults that it is proved with.
        cause: sentence; ``{node}`` and the like are what signs bound, ``{ip}``/``{other}`` the
            family and the other one as Kubernetes spells them, ``{family}`` in lower case.
        fix: commands or settings, in order.
        signs: all of them must be there.
        explains: requirements whose failure, or whose being blocked, may follow from it.
        local: it concerns the bound ``node`` only; failures of paths elsewhere are not its own.
        across: what follows from it is in both families, whichever it occurs in.
        families: in which it can occur.
        apart: where it holds in both families these are two causes, each with its own fix.
    """

    name: str
    faults: tuple[str, ...]
    depth: Depth
    cause: str
    fix: tuple[str, ...]
    signs: tuple[Sign, ...]
    explains: tuple[str, ...]
    local: bool = False
    across: bool = False
    families: tuple[Family, ...] = (Family.IPV4, Family.IPV6)
    apart: bool = False

    @property
    def specificity(self) -> tuple[int, int]:
        return self.depth, len(self.signs)

    @property
    def speaks_of_one_family(self) -> bool:
        return "{other}" in self.cause


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that holds, in one family or both."""

    rule: Rule
    families: tuple[Family, ...]
    evidence: tuple[str, ...]
    shown_by: tuple[Key, ...]
    values: Values

    @property
    def cause(self) -> str:
        return filled(self.rule.cause, self.families, self.values)

    @property
    def fix(self) -> tuple[str, ...]:
        steps = [
            filled(step, (family,), self.values)
            for step in self.rule.fix
            for family in (self.families if "{family}" in step else self.families[:1])
        ]
        return unique(steps)

    def merged(self, other: Match) -> Match:
        """The same rule in both families, as one."""
        names = [*self.values, *(n for n in other.values if n not in self.values)]
        return Match(
            self.rule,
            self.families + other.families,
            unique((*self.evidence, *other.evidence)),
            tuple(dict.fromkeys(self.shown_by + other.shown_by)),
            {
                name: unique((*self.values.get(name, ()), *other.values.get(name, ())))
                for name in names
            },
        )


@dataclass(frozen=True, slots=True)
class NoMatch:
    """A rule that does not hold, and the first sign that is not there."""

    rule: Rule
    family: Family
    missing: Missing


def apply(rule: Rule, case: Case, family: Family) -> Match | NoMatch:
    """Look for all signs of a rule in one family."""
    evidence: list[str] = []
    keys: list[Key] = []
    values: dict[str, tuple[str, ...]] = {}
    for sign in rule.signs:
        found = sign.look(case, family, values)
        if isinstance(found, Missing):
            return NoMatch(rule, family, found)
        evidence += found.evidence
        keys += found.shown_by
        values |= found.values
    return Match(rule, (family,), unique(evidence), tuple(dict.fromkeys(keys)), values)


class _Words(dict[str, str]):
    """Words by placeholder; one that no sign has bound shows as itself."""

    def __missing__(self, name: str) -> str:
        return name.upper()


def filled(template: str, families: tuple[Family, ...], values: Values) -> str:
    """A template with its placeholders filled: many values as a list, ``_count`` as a number."""
    words = {
        "ip": " and ".join(f.kubernetes for f in families),
        "other": families[0].other.kubernetes,
        "family": families[0].value,
        "version": str(families[0].version),
        "icmp": "ICMP" if families[0] is Family.IPV4 else "ICMPv6",
        "record": " and ".join(f.record for f in families),
        "otherrecord": families[0].other.record,
    }
    for name, many in values.items():
        words[name] = ", ".join(many)
        words[f"{name}_first"] = many[0] if many else ""
        words[f"{name}_count"] = str(len(many))
    return " ".join(template.format_map(_Words(words)).split())


# Words that may be empty; they come with their own space.
MAY_BE_EMPTY: Final = frozenset(("why", "lack", "although", "enforced", "share", "place", "where"))


def blank(template: str) -> str:
    """A template with its placeholders in capitals, in brackets those that may be empty."""
    return "".join(literal + _blank(name) for literal, name, _, _ in Formatter().parse(template))


def _blank(name: str | None) -> str:
    if name is None:
        return ""
    shown = {"ip": "IPFAMILY", "other": "OTHER FAMILY", "version": "6"}.get(name)
    shown = shown or name.removesuffix("_first").upper()
    return f" [{shown}]" if name in MAY_BE_EMPTY else shown
