"""What must become of each shape of packet: data with its source, read strictly.

An expectation is one or more outcomes in the words of ``judge.outcome``. Where Linux or Calico is
known to do something else, ``known`` says what and why: that is then what must be seen, and when
it is not, the data is out of date and the verdict is red.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from helpers.kernels import Version, version
from helpers.model import FAMILIES, Family

FILE: Final = Path(__file__).resolve().parents[2] / "suites" / "packets" / "expected.yaml"
OTHER_NODE: Final = "other node"  # as ``ways`` names it, which knows agents
PLAIN: Final = "PLAIN"  # in the place of a requirement: the control of all others
KEYS: Final = frozenset({"shape", "requirement", "is", "expect", "source"})
KNOWN_KEYS: Final = frozenset({"expect", "why", "source"})
WAYS: Final = "ways"  # other keys of ``known``
KERNEL: Final = "kernel"


@dataclass(frozen=True, slots=True)
class Known:
    """What is done instead of what the RFC wants, and where that is written.

    ``ways`` are the kinds of ways on which it is; none named: all. ``kernel``: only where a node of
    the way has this one or a newer one.
    """

    expect: tuple[str, ...]
    why: str
    source: str
    ways: tuple[str, ...] = ()
    kernel: Version | None = None

    def applies(self, way: str, kernel: Callable[[], Version]) -> bool:
        """Whether it is so on a way of this kind.

        Args:
            kernel: the newest one of the way; asked only where that matters.
        """
        if self.ways and way not in self.ways:
            return False
        return self.kernel is None or kernel() >= self.kernel


def _oldest() -> Version:
    return 0, 0


@dataclass(frozen=True, slots=True)
class Expected:
    """One shape in one family.

    Attributes:
        words: the packet in words.
        expect: outcomes of which one must be seen.
    """

    shape: str
    requirement: str
    words: str
    expect: tuple[str, ...]
    source: str
    known: Known | None = None

    def known_on(self, way: str, kernel: Callable[[], Version] = _oldest) -> Known | None:
        """The deviation that is known on a kind of way with this kernel."""
        return self.known if self.known and self.known.applies(way, kernel) else None

    def on(self, way: str, kernel: Callable[[], Version] = _oldest) -> tuple[str, ...]:
        """The outcomes that must be seen today on a kind of way with this kernel."""
        known = self.known_on(way, kernel)
        return known.expect if known else self.expect

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Expected:
        """One entry of the file.

        Raises:
            ValueError: keys are missing or unknown.
        """
        known = entry.get("known")
        if entry.keys() - {"known"} != KEYS or (
            known is not None and known.keys() - {WAYS, KERNEL} != KNOWN_KEYS
        ):
            raise ValueError(f"{FILE.name}: {entry.get('shape')}: keys are {sorted(entry)}")
        return cls(
            shape=entry["shape"],
            requirement=entry["requirement"],
            words=entry["is"],
            expect=_choices(entry["expect"]),
            source=entry["source"],
            known=(
                Known(
                    _choices(known["expect"]),
                    known["why"],
                    known["source"],
                    tuple(known.get(WAYS, ())),
                    version(known[KERNEL]) if KERNEL in known else None,
                )
                if known
                else None
            ),
        )


def _choices(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


@cache
def expectations() -> Mapping[Family, Mapping[str, Expected]]:
    """By family and shape; read once per process.

    Raises:
        ValueError: an entry is malformed or occurs twice.
    """
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    found = {}
    for family in FAMILIES:
        entries = [Expected.parse(entry) for entry in data[family.value]]
        by_shape = {one.shape: one for one in entries}
        if len(by_shape) != len(entries):
            raise ValueError(f"{FILE.name}: a shape occurs twice under {family}")
        found[family] = MappingProxyType(by_shape)
    return MappingProxyType(found)


def shapes_of(requirement: str, family: Family) -> list[str]:
    """Shapes that a requirement's verdict rests on, the control first.

    Raises:
        LookupError: there are none.
    """
    known = expectations()[family].values()
    found = [one.shape for one in known if one.requirement == requirement]
    if not found:
        raise LookupError(f"{FILE.name} has no shape of {requirement} for {family}")
    return ["plain", *found]


def delivered_shapes(family: Family) -> list[str]:
    """Shapes that are delivered between pods today, the control first."""
    known = expectations()[family].values()
    return [one.shape for one in known if one.on(OTHER_NODE) == ("delivered",)]
