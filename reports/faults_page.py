"""``docs/faults.md``: which verdicts each planted fault must and may turn red."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from helpers.faults.expectations import Expectation, Key, keys_of
from helpers.requirements import requirements

FAULTS_PAGE: Final = Path("docs") / "faults.md"

HEAD: Final = """# Faults

Generated from `suites/faults.yaml` by `python -m reports docs --write`; do not edit.

`make prove` plants these in a cluster one after another, heals each, and compares what was red.
*Must* is the exact set of red verdicts; what *may* be red or undecided depends, and the reason says
on what. Undecided because of a red requirement is a consequence and is not listed. A row whose
fault is in `tests/faults/recorded.json` was seen exactly so on a live cluster, and a test compares
the two; the others are what the code of the components and faults planted by hand say. Beside each
fault the sample runs and must stay green:
"""


def faults_page(rows: Mapping[str, Expectation], sample: Sequence[str]) -> str:
    """The page as Markdown."""
    parts = [f"{HEAD.rstrip()} {', '.join(sample)}."]
    planted = [row for row in rows.values() if row.kind == "fault" and row.planted]
    controls = [row for row in rows.values() if row.kind == "control"]
    recorded = [row for row in rows.values() if not row.planted]
    parts += ["## Planted in a cluster", *(_fault(row) for row in planted)]
    parts += ["## Controls, under which everything stays green"]
    parts += ["\n".join(f"- **{row.id}** {row.title}{_where(row)}" for row in controls)]
    parts += ["## Shown on recorded input, because no cluster can be made to do it"]
    parts += ["\n".join(f"- **{row.id}** {row.title}: {_told(row.must)}" for row in recorded)]
    return "\n\n".join(parts) + "\n"


def _fault(row: Expectation) -> str:
    lines = [f"### {row.id}: {row.title}", "", f"- must: {_told(row.must)}"]
    for reason, keys in _by_reason(row).items():
        lines.append(f"- may: {_told(keys)}: {reason}")
    if _where(row):
        lines.append(f"- where:{_where(row)}")
    if row.says:
        lines.append(f"- diagnosis{f' `{row.rule}`' if row.rule else ''}: {row.says}")
    if row.note:
        lines.append(f"- note: {row.note}")
    return "\n".join(lines)


def _by_reason(row: Expectation) -> Mapping[str, list[Key]]:
    grouped: dict[str, list[Key]] = {}
    for key, reason in row.may.items():
        grouped.setdefault(reason, []).append(key)
    return grouped


def _where(row: Expectation) -> str:
    wanted = [f"needs {need}" for need in row.needs]
    if row.profile:
        wanted.append(f"only in profile {row.profile}")
    if row.workers > 1:
        wanted.append(f"{row.workers} workers")
    return f" ({', '.join(wanted)})" if wanted else ""


def _told(keys: Iterable[Key]) -> str:
    """``CONN-002, SVC-007 [ipv6]``: the family only where it is not all that there are."""
    families: dict[str, list[str]] = {}
    for name, family in keys:
        families.setdefault(name, []).append(family)
    return ", ".join(
        name if len(held) == len(keys_of(requirements()[name])) else f"{name} [{held[0]}]"
        for name, held in families.items()
    )
