"""``docs/faults.md``: which verdicts each planted fault must and may turn red."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from helpers.faults.expectations import Expectation, Key, keys_of
from helpers.requirements import requirements

FAULTS_PAGE: Final = Path("docs") / "faults.md"
RECORDED: Final = Path("tests") / "faults" / "recorded.json"  # made by tests/faults/recorder.py

Live = Mapping[str, Mapping[str, Any]]  # what live clusters showed, by fault

HEAD: Final = """# Faults

Generated from `suites/faults.yaml` by `python -m reports docs --write`; do not edit.

`make prove` plants these in a cluster one after another, heals each, and compares what was red.
*Must* is the exact set of red verdicts; what *may* be red or undecided depends, and the reason says
on what. Undecided because of a red requirement is a consequence and is not listed. *Seen* says on
which live cluster exactly these verdicts were red, and green again after healing; all verdicts of
then are in `tests/faults/recorded.json`, and a test compares them with the row. Other rows are what
the code of the components says. Beside each fault the sample runs and must stay green:
"""


def live(root: Path) -> Live:
    """What was recorded of live clusters, for the repository at ``root``."""
    found: Live = json.loads((root / RECORDED).read_text(encoding="utf-8"))
    return found


def faults_page(rows: Mapping[str, Expectation], sample: Sequence[str], seen: Live) -> str:
    """The page as Markdown.

    Args:
        sample: requirements that run beside every fault.
        seen: see ``live``.
    """
    parts = [f"{HEAD.rstrip()} {', '.join(sample)}.", _count(rows.values(), seen)]
    planted = [row for row in rows.values() if row.kind == "fault" and row.planted]
    controls = [row for row in rows.values() if row.kind == "control"]
    recorded = [row for row in rows.values() if not row.planted]
    parts += ["## Planted in a cluster", *(_fault(row, seen.get(row.id)) for row in planted)]
    parts += ["## Controls, under which everything stays green"]
    lines = [f"- **{row.id}** {row.title}{_where(row)}{_green(row, seen)}" for row in controls]
    parts += ["\n".join(lines)]
    parts += ["## Shown on recorded input, because no cluster can be made to do it"]
    parts += ["\n".join(f"- **{row.id}** {row.title}: {_told(row.must)}" for row in recorded)]
    return "\n\n".join(parts) + "\n"


def _count(rows: Iterable[Expectation], seen: Live) -> str:
    planted = [row for row in rows if row.planted]
    unseen = [row.id for row in planted if row.id not in seen]
    told = f"{len(planted) - len(unseen)} of {len(planted)} were seen."
    return told if not unseen else f"{told} Not yet: {', '.join(unseen)}."


def _green(row: Expectation, seen: Live) -> str:
    return f" (seen: {seen[row.id]['cluster']})" if row.id in seen else ""


def _seen(it: Mapping[str, Any]) -> str:
    told = "".join(f"; it said: {' '.join(cause.split())}" for cause in it["diagnosed"])
    return f"- seen: {it['cluster'] or 'on a live cluster'}{told}"


def _fault(row: Expectation, seen: Mapping[str, Any] | None) -> str:
    lines = [f"### {row.id}: {row.title}", "", f"- must: {_told(row.must)}"]
    for reason, keys in _by_reason(row).items():
        lines.append(f"- may: {_told(keys)}: {reason}")
    if seen is not None:
        lines.append(_seen(seen))
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
