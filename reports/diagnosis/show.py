"""Diagnoses as lines for the terminal: cause, evidence, what is concerned, fix, consequences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from helpers.model import Verdict
from reports.model import Diagnosis

WIDTH = 150
EVIDENCE_SHOWN = 4
MARGIN = 12  # columns of a line's name


def diagnosis_lines(diagnoses: Sequence[Diagnosis]) -> Iterator[str]:
    """Nothing when nothing failed."""
    if not diagnoses:
        return
    yield ""
    yield f"DIAGNOSES ({len(diagnoses)}):"
    for number, diagnosis in enumerate(diagnoses, 1):
        yield from _one(number, diagnosis)


def _one(number: int, diagnosis: Diagnosis) -> Iterator[str]:
    yield from _wrapped(f"{number}. ", [diagnosis.cause], indent=2)
    shown = list(diagnosis.evidence[:EVIDENCE_SHOWN])
    if len(diagnosis.evidence) > EVIDENCE_SHOWN:
        shown.append(f"... and {len(diagnosis.evidence) - EVIDENCE_SHOWN} more in results.json")
    yield from _wrapped("seen:", shown)
    yield from _wrapped("concerns:", _joined(diagnosis.asymmetry))
    yield from _wrapped("fix:", diagnosis.fix)
    yield from _wrapped("explains:", [_consequences(diagnosis)])
    yield from _wrapped("it is not:", _joined(diagnosis.ruled_out))
    yield from _wrapped("may be:", _joined(diagnosis.not_looked_at))


def _joined(texts: Sequence[str]) -> list[str]:
    return ["; ".join(texts)] if texts else []


def _consequences(diagnosis: Diagnosis) -> str:
    """``FAIL CONN-002 [ipv4 ipv6], EGR-002 [ipv6]; BLOCKED ...``."""
    parts = []
    for verdict in (Verdict.FAIL, Verdict.BLOCKED, Verdict.INCONCLUSIVE):
        families: dict[str, list[str]] = {}
        for each in diagnosis.consequences:
            if each.verdict is verdict:
                families.setdefault(each.id, []).append(each.family)
        told = [
            name if found == ["pair"] else f"{name} [{' '.join(found)}]"
            for name, found in families.items()
        ]
        if told:
            parts.append(f"{verdict.upper()} {', '.join(told)}")
    return "; ".join(parts)


def _wrapped(name: str, texts: Sequence[str], indent: int = 5) -> Iterator[str]:
    """Texts beside a name, each on lines of its own."""
    margin = " " * (indent + (len(name) if indent == 2 else MARGIN))
    for position, text in enumerate(texts):
        head = " " * indent + name if position == 0 else ""
        yield from textwrap.wrap(
            text,
            WIDTH,
            initial_indent=head.ljust(len(margin)),
            subsequent_indent=margin + ("  " if indent > 2 else ""),
            break_long_words=False,
            break_on_hyphens=False,
        )
