"""What a judgement found wrong, as sentences for the operator.

A judgement is a pure function from what was observed to a list of sentences, each of which says
what was seen, where, and what to change. An empty list means that the promise holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

# One broken setting shows on every pod: more sentences than this hide the cause, not tell it.
SHOWN: Final = 12


def told(findings: Sequence[str]) -> str:
    """Message of a failed assertion: one sentence per line, the many folded."""
    lines = list(findings[:SHOWN])
    if len(findings) > SHOWN:
        lines.append(f"... and {len(findings) - SHOWN} more like these")
    head = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    return "\n".join([head, *(f"- {line}" for line in lines)])


class Found(AssertionError):  # noqa: N818  # a verdict, not an error
    """A promise does not hold; the message folds what is too much of ``findings``."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__(told(findings))
        self.findings = tuple(findings)


def demand_none(findings: Sequence[str]) -> None:
    """The promise holds only when nothing was found.

    Raises:
        Found: an AssertionError with every finding as a sentence.
    """
    if findings:
        raise Found(findings)


def listed(values: Iterable[object]) -> str:
    """``a, b`` for messages; ``none`` when there are none."""
    return ", ".join(map(str, values)) or "none"
