"""Which tests decide which requirement, read from the source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.requirements import RequirementError, requirement_of


@dataclass(frozen=True, slots=True)
class SuiteTest:
    """A test function under ``suites/``; ``requirement`` is None when its name has no known id."""

    file: Path  # relative to the repository
    function: str
    line: int
    docstring: str
    arguments: tuple[str, ...]
    requirement: str | None

    @property
    def node_id(self) -> str:
        return f"{self.file.as_posix()}::{self.function}"


def suite_tests(root: Path) -> tuple[SuiteTest, ...]:
    """Tests under ``root/suites`` in order of file and line.

    Raises:
        SyntaxError: a file is not Python.
    """
    files = sorted((root / "suites").rglob("test_*.py"))
    return tuple(test for file in files for test in _tests(root, file))


def _tests(root: Path, file: Path) -> Iterator[SuiteTest]:
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield SuiteTest(
                file=file.relative_to(root),
                function=node.name,
                line=node.lineno,
                docstring=ast.get_docstring(node) or "",
                arguments=tuple(a.arg for a in (*node.args.args, *node.args.kwonlyargs)),
                requirement=_requirement(node.name),
            )


def _requirement(name: str) -> str | None:
    try:
        return requirement_of(name).id
    except RequirementError:
        return None
