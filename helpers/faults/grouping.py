"""Which faults can be planted together: those that touch different things and redden others.

When the verdicts are exactly the union of what is expected, each fault has been noticed by its own
requirements. When they are not, nobody knows whose surprise it is: each is then planted alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from helpers.faults.expectations import Expectation, Key
from helpers.faults.plans import Plan

MOST: Final = 6  # more in one session would not be faster: its slowest requirements decide


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


def group(
    first: Expectation, others: Iterable[Expectation], plans: Mapping[str, Plan]
) -> list[Expectation]:
    """The first, and those of the others that can be planted with it.

    Args:
        plans: of all of them.
    """
    chosen = [first]
    if not _sociable(first, plans[first.id]):
        return chosen
    for row in others:
        if len(chosen) == MOST:
            break
        if _sociable(row, plans[row.id]) and all(_apart(row, it, plans) for it in chosen):
            chosen.append(row)
    return chosen


def _sociable(row: Expectation, plan: Plan) -> bool:
    # Changes from a generator are known only while they are made.
    return row.kind == "fault" and not row.alone and isinstance(plan.changes, Sequence)


def _apart(one: Expectation, other: Expectation, plans: Mapping[str, Plan]) -> bool:
    if {*one.must, *one.may} & {*other.must, *other.may}:
        return False
    return not _touched(one, plans[one.id]) & _touched(other, plans[other.id])


def _touched(row: Expectation, plan: Plan) -> set[str]:
    return {change.of(row.id).where for change in plan.changes}
