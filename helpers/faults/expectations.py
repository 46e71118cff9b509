"""What must and what may turn red when a fault is planted, read strictly from
``suites/faults.yaml``.

A verdict is written as ``CONN-002 ipv6``; the id alone means every family that the requirement is
decided for, or the one verdict of a pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from helpers.requirements import FEATURES, GROUPS, Requirement, requirements

FAULTS_FILE: Final = Path(__file__).resolve().parents[2] / "suites" / "faults.yaml"
PAIR: Final = "pair"
_ID: Final = re.compile(r"[FRB]\d{1,2}[a-z]?|[A-Z]+-\d{3}(/[a-z0-9-]+)?")

# Words of a row and of its twin for IPv4; two pairs of requirements are one for each family.
_TWINS: Final = {
    "EGR-002 ipv6": "EGR-001 ipv4",
    "EGR-004 ipv6": "EGR-003 ipv4",
    "ipv6": "ipv4",
    "IPv6": "IPv4",
    "ICMPv6": "ICMP",
    "BIRD6": "BIRD",
}

Key = tuple[str, str]  # requirement and family, as results.json names them


class ExpectationError(ValueError):
    """The data of faults is wrong; the message says where and what to write."""


class Expectation(BaseModel):
    """One row: a fault (or a control, under which everything must stay green).

    Attributes:
        id: of the catalogue (``F11``, ``R2``, ``B1``), or a requirement's own: ``CFG-009/drop``.
        must: verdicts that must be red, all of them.
        may: verdicts that may be red or undecided, each with the reason why it depends; they are
            run only where something else asks for them.
        beside: requirements or groups that run as well and must stay green.
        needs: features that the cluster must be declared to have.
        profile: the only cluster profile in which it can be had, None for any.
        workers: how many workers it needs.
        alone: never planted together with others: it changes what their requirements rest on.
        mirror: id of the same fault in the other family, which can be planted with it all the same.
        settle: seconds that the fault may take to show; heal: that its reversal may take.
        rule: id of the diagnosis that must be printed; says: the sentence, capitals as
            placeholders.
        twin_of: id of the row for IPv6 that this one was made from (`twin` in the file).
        recorded: tests of the harness that show it on recorded input, when it cannot be planted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    kind: Literal["fault", "control"] = "fault"
    must: tuple[Key, ...] = ()
    may: Mapping[Key, str] = {}
    beside: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    profile: str | None = None
    workers: int = 1
    alone: bool = False
    mirror: str | None = None
    settle: float = 30.0
    heal: float = 90.0
    rule: str | None = None
    says: str = ""
    twin_of: str | None = None
    recorded: tuple[str, ...] = ()
    note: str = ""

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError("an id is F11, R2, B1, or REQUIREMENT/words: CFG-009/drop")
        owner = value.partition("/")[0]
        if "-" in owner and owner not in requirements():
            raise ValueError(f"there is no requirement {owner}")
        return value

    @field_validator("must", mode="before")
    @classmethod
    def _must(cls, value: Any) -> tuple[Key, ...]:
        return tuple(key for text in value for key in keys(text))

    @field_validator("may", mode="before")
    @classmethod
    def _may(cls, value: Mapping[str, str]) -> dict[Key, str]:
        lacking = [text for text, reason in value.items() if not str(reason or "").strip()]
        if lacking:
            raise ValueError(f"write the reason beside {lacking}")
        return {key: reason for text, reason in value.items() for key in keys(text)}

    @field_validator("beside")
    @classmethod
    def _beside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [word for word in value if word not in GROUPS and word not in requirements()]
        if wrong:
            raise ValueError(f"{wrong}: neither requirements nor groups ({', '.join(GROUPS)})")
        return value

    @field_validator("needs")
    @classmethod
    def _needs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not FEATURES.keys() >= set(value):
            raise ValueError(f"needs {value}, known features: {sorted(FEATURES)}")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Expectation:
        both = set(self.must) & set(self.may)
        if both:
            raise ValueError(f"{named(both)}: either must or may")
        if self.kind == "control" and (self.must or self.may):
            raise ValueError("under a control nothing is red")
        if self.kind == "fault" and not self.must:
            raise ValueError("a fault turns something red: name it in `must`")
        if self.recorded and self.profile:
            raise ValueError("either recorded or planted in a profile")
        return self

    @property
    def planted(self) -> bool:
        """Whether it is planted in clusters (and not only shown on recorded input)."""
        return not self.recorded

    @property
    def sociable(self) -> bool:
        """Whether it may be planted together with others."""
        return self.planted and not self.alone

    @property
    def cost(self) -> tuple[int, float]:
        """Cheap ones sort first: many at once, then alone by what it may wait, controls last."""
        if self.kind == "control":
            return 2, 0.0
        return (0, 0.0) if self.sociable else (1, self.settle + self.heal)

    @property
    def selection(self) -> frozenset[str]:
        """Ids of the requirements to run while it is planted.

        Not those that may be red: whatever they say, it proves nothing.
        """
        chosen = {name for name, _ in self.must}
        for word in self.beside:
            chosen |= set(_group(word)) if word in GROUPS else {word}
        return frozenset(chosen)


class _File(BaseModel):
    """The whole file. ``sample``: requirements that run beside every fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample: tuple[str, ...]
    faults: tuple[dict[str, Any], ...]


def keys(text: str) -> list[Key]:
    """``CONN-002 ipv6`` and its like as keys of results.

    Raises:
        ExpectationError: there is no such requirement, or it is not decided for that family.
    """
    name, *families = str(text).split()
    known = requirements().get(name)
    if known is None:
        raise ExpectationError(f"{text}: there is no requirement {name}")
    decided = keys_of(known)
    if not families:
        return decided
    wrong = set(families) - {family for _, family in decided}
    if wrong:
        choices = ", ".join(family for _, family in decided)
        raise ExpectationError(f"{text}: {name} is decided for {choices}")
    return [key for key in decided if key[1] in families]


def keys_of(requirement: Requirement) -> list[Key]:
    """The verdicts that a requirement has."""
    if requirement.pair:
        return [(requirement.id, PAIR)]
    return [(requirement.id, family.value) for family in requirement.families]


def named(found: Iterable[Key]) -> str:
    """Keys for messages, in the order of the catalogue: ``CFG-001, SVC-007 [ipv6]``."""
    order = list(requirements())
    ordered = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    return ", ".join(label(key) for key in ordered) or "none"


def label(key: Key) -> str:
    return key[0] if key[1] == PAIR else f"{key[0]} [{key[1]}]"


def _group(name: str) -> list[str]:
    return [r.id for r in requirements().values() if r.group == name]


@cache
def load(file: Path = FAULTS_FILE) -> tuple[Mapping[str, Expectation], tuple[str, ...]]:
    """Rows by id in the order of the file, and the sample that runs beside each.

    Raises:
        ExpectationError: a row is malformed, or an id occurs twice.
    """
    try:
        whole = _File.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ExpectationError(f"{file.name}: {_told(error)}") from None
    unknown = [name for name in whole.sample if name not in requirements()]
    if unknown:
        raise ExpectationError(f"{file.name}: sample: there is no requirement {unknown}")
    rows: dict[str, Expectation] = {}
    for entry in [each for given in whole.faults for each in _with_twin(given)]:
        name = entry.get("id", "row without id")
        try:
            row = Expectation.model_validate(entry)
        except ValidationError as error:
            raise ExpectationError(f"{file.name}: {name}: {_told(error)}") from None
        if row.id in rows:
            raise ExpectationError(f"{file.name}: {row.id} occurs twice")
        rows[row.id] = row
    return MappingProxyType(rows), whole.sample


def _with_twin(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """A row, and the same for IPv4 where it names its twin."""
    one = {key: value for key, value in entry.items() if key != "twin"}
    if "twin" not in entry:
        return [one]
    other: dict[str, Any] = yaml.safe_load(_ipv4(yaml.safe_dump(one)))
    return [one, other | {"id": entry["twin"], "twin_of": entry["id"]}]


def _ipv4(text: str) -> str:
    for six, four in _TWINS.items():
        text = text.replace(six, four)
    return text


def _told(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in error.errors())


def expectations() -> Mapping[str, Expectation]:
    """The product's faults by id."""
    return load()[0]


def sample() -> tuple[str, ...]:
    """Requirements that run beside every fault, whatever it touches."""
    return load()[1]
