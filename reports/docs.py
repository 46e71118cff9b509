"""``docs/requirements.md``: the requirements and the tests that decide them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from helpers.model import Level
from helpers.requirements import GROUPS, Requirement
from reports.inventory import SuiteTest, suite_tests

DOCS_FILE: Final = Path("docs") / "requirements.md"
NOT_YET: Final = "not yet"

HEAD: Final = """# Requirements

Generated from `suites/requirements.yaml` and the tests under `suites/` by
`python -m reports docs --write`; do not edit.

A requirement is decided for each family it lists, or once for the pair. *core* and *extended* ones
decide the exit code, *informational* ones are recorded. Evidence of a source: [V] read in source or
documentation, [L] reproduced with packets in network namespaces, [M] from memory, [I] inferred.
The fault is the change that must turn the verdict red; capitals in it are placeholders.
"""


def render(requirements: Mapping[str, Requirement], tests: Sequence[SuiteTest]) -> str:
    """The page as Markdown."""
    written: dict[str, list[SuiteTest]] = {}
    for test in tests:
        if test.requirement:
            written.setdefault(test.requirement, []).append(test)
    parts = [HEAD, _overview(requirements, written)]
    for group in GROUPS:
        rows = [r for r in requirements.values() if r.group == group]
        parts.append(_group(group, rows, written))
    return "\n".join(parts)


def render_for(root: Path, requirements: Mapping[str, Requirement]) -> str:
    """The page for the repository at ``root``."""
    return render(requirements, suite_tests(root))


def _overview(
    requirements: Mapping[str, Requirement], written: Mapping[str, list[SuiteTest]]
) -> str:
    lines = ["| group | core | extended | informational | with a test |", "|---|--:|--:|--:|--:|"]
    for group in GROUPS:
        rows = [r for r in requirements.values() if r.group == group]
        counts = " | ".join(str(sum(r.level is level for r in rows)) for level in Level)
        done = sum(r.id in written for r in rows)
        title = group.replace("_", " ")
        lines.append(f"| [{title}](#{_anchor(group)}) | {counts} | {done} of {len(rows)} |")
    everything = list(requirements.values())
    counts = " | ".join(str(sum(r.level is level for r in everything)) for level in Level)
    lines.append(f"| **all** | {counts} | {len(written)} of {len(everything)} |")
    return "\n".join(lines) + "\n"


def _anchor(group: str) -> str:
    return group.replace("_", "-")


def _group(group: str, rows: Sequence[Requirement], written: Mapping[str, list[SuiteTest]]) -> str:
    lines = [
        f"## {group.replace('_', ' ').capitalize()}",
        "",
        "| id | requirement | families | profile | test |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        tests = "<br>".join(_link(test) for test in written.get(row.id, [])) or NOT_YET
        level = f"{row.level}, disruptive" if row.disruptive else row.level.value
        families = ", ".join(row.families) or "pair"
        lines.append(f"| {row.id} | {_cell(row.title)} | {families} | {level} | {tests} |")
    lines += ["", "| id | applies to | observed by | source | fault that must show |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        applies = "; ".join([row.applies, *(f"needs {need}" for need in row.needs)])
        cells = [applies, row.observe, row.source, row.fault]
        lines.append(f"| {row.id} | " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def _link(test: SuiteTest) -> str:
    return f"[{test.file.name}::{test.function}](../{test.file.as_posix()})"


def _cell(text: str) -> str:
    """Text for one cell: no pipe may end it, nothing may read as HTML or emphasis."""
    escaped = text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
    return " ".join(escaped.split())
