"""Which faults can be planted together: those that touch different things and redden others.

When the verdicts are exactly the union of what is expected, each fault has been noticed by its own
requirements. When one has missed something, it alone is planted again; when something is red that
nobody expects, nobody knows whose surprise it is: each half is planted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from helpers.faults.changes import Change, Frozen
from helpers.faults.comparison import Comparison
from helpers.faults.expectations import Expectation, Key
from helpers.faults.plans import Plan

MOST: Final = 12  # more at once, and a surprise takes long to be found
# Who reaches whom: losses of two faults in one family would be told as one, of another cause.
REACH: Final = (
    *("CONN-001", "CONN-002", "CONN-003", "CONN-011", "CONN-012"),
    *("EGR-001", "EGR-002", "EGR-007", "EGR-011"),
)


def merged(rows: Sequence[Expectation]) -> Expectation:
    """The expectation of several faults at once."""
    if len(rows) == 1:
        return rows[0]
    may: dict[Key, str] = {}
    for row in rows:
        may |= row.may
    return Expectation.model_construct(
        id="+".join(row.id for row in rows),
        title="several faults that touch different things",
        must=tuple(key for row in rows for key in row.must),
        may=may,
        beside=tuple(word for row in rows for word in row.beside),
        heal=max(row.heal for row in rows),
    )


def rounds(
    rows: Sequence[Expectation], plans: Mapping[str, Plan | None]
) -> list[list[Expectation]]:
    """All of them in rounds, each of faults that can be planted together; the order stays.

    Args:
        plans: of all of them, None where nobody could say what the fault would touch.
    """
    made: list[list[Expectation]] = []
    left = list(rows)
    while left:
        chosen = [left.pop(0)]
        for row in list(left):
            if len(chosen) < MOST and all(_apart(row, it, plans) for it in chosen):
                chosen.append(row)
                left.remove(row)
        made.append(chosen)
    return made


def split(rows: Sequence[Expectation], found: Comparison) -> list[list[Expectation]]:
    """How those of a round that are not proved by it are planted again."""
    if found.surplus:
        half = len(rows) // 2
        return [list(rows[:half]), list(rows[half:])]
    return [[row] for row in rows if set(row.must) & found.missed]


def _apart(one: Expectation, other: Expectation, plans: Mapping[str, Plan | None]) -> bool:
    if {*one.must, *one.may} & set(other.must) or set(one.must) & set(other.may):
        return False  # one would have been noticed by what the other made red
    if _losing(one) & _losing(other):
        return False
    if one.kind != other.kind or not ((one.sociable and other.sociable) or _mirrored(one, other)):
        return False
    first, second = _touched(one, plans[one.id]), _touched(other, plans[other.id])
    if first is None or second is None or _still(first) != _still(second):
        return False
    return all(first[where] == second[where] for where in first.keys() & second.keys())


def _losing(row: Expectation) -> set[str]:
    """Families in which somebody does not reach somebody."""
    return {family for name, family in row.must if name in REACH}


def _mirrored(one: Expectation, other: Expectation) -> bool:
    """The same fault in the other family: as alone as its mirror, and none of its business."""
    return one.id in (other.mirror, other.twin_of) or other.id in (one.mirror, one.twin_of)


def _touched(row: Expectation, plan: Plan | None) -> dict[str, Change] | None:
    """What a fault changes; two that make the very same change share it."""
    # Changes from a generator are known only while they are made.
    if plan is None or not isinstance(plan.changes, Sequence):
        return None
    return {(change := planned.of(row.id)).where: change for planned in plan.changes}


def _still(touched: Mapping[str, Change]) -> set[str]:
    """What stands still: with it whatever other faults would be noticed by."""
    return {where for where, change in touched.items() if isinstance(change, Frozen)}
