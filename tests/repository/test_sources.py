"""Rules that every source file of the repository keeps."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("clusters", "helpers", "reports", "suites", "tests", "bench")
LINES = 400

# Which of our own modules a part may import, by prefix. ``tests`` and ``bench`` may import all.
ALLOWED = {
    "suites": ("suites", "helpers", "clusters.api"),
    "clusters": ("clusters", "helpers"),
    "helpers": ("helpers", "clusters.api", "clusters.errors", "clusters.spec"),
    "reports": ("reports", "helpers"),
}
# Edges where the parts meet, with what they may import beyond that.
EDGES = {
    "helpers/plugin_clusters.py": ("clusters",),  # fixtures over the registry
    "helpers/cluster_session.py": ("clusters",),  # the rest of plugin_clusters
    "helpers/plugin_outside.py": ("clusters.outside",),  # gives the outside its routes
    "helpers/prove.py": ("clusters",),  # journals lie where clusters are recorded
    "reports/bundle.py": ("clusters.images",),  # what a cluster is built from
    "helpers/resilience/rolls.py": ("clusters.upgrade",),  # a roll may be another release
}
# What ``clusters`` and ``reports`` must not take from ``helpers``: observing, and each other.
FORBIDDEN = {
    "clusters": ("helpers.plugin", "helpers.workloads", "helpers.gates", "helpers.matrix"),
    "reports": (
        "helpers.agents",
        "helpers.facts",
        "helpers.gates",
        "helpers.kube",
        "helpers.probes",
        "helpers.workloads",
    ),
}
SLEEPERS = {
    "helpers/waiting.py",  # the one module that waits
}
# Our own package that runs where nothing else of ours, and no library, is installed.
SHIPPED = "helpers/agents/remote/"  # it paces probes, so it sleeps as well


def sources() -> list[Path]:
    return [
        *(p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))),
        ROOT / "conftest.py",
    ]


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCES = pytest.mark.parametrize("path", sources(), ids=ids)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{ids(path)}:{node.lineno}: import by full name"
            # `from helpers import facts` imports a module as `from helpers.facts import x` does
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def begins(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@SOURCES
def test_import_direction(path: Path) -> None:
    part = ids(path).split("/")[0]
    if part not in ALLOWED:
        return
    allowed = (*ALLOWED[part], *EDGES.get(ids(path), ()))
    ours = [(name, line) for name, line in imported(path) if begins(name, PACKAGES)]
    wrong = [
        f"{ids(path)}:{line}: {part} may not import {name}"
        for name, line in ours
        if not begins(name, allowed) or name.startswith(FORBIDDEN.get(part, ("!",)))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sorted((ROOT / SHIPPED).glob("*.py")), ids=ids)
def test_agent_imports_itself_and_the_standard_library_only(path: Path) -> None:
    itself = SHIPPED.rstrip("/").replace("/", ".")
    wrong = [
        f"{ids(path)}:{line}: {name} is not there where the agent runs"
        for name, line in imported(path)
        if not begins(name, (itself,)) and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


@SOURCES
def test_module_fits_its_subject(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < LINES, f"{ids(path)} has {lines} lines: split it by subject"


@SOURCES
def test_nobody_sleeps(path: Path) -> None:
    if ids(path) in SLEEPERS or ids(path).startswith(SHIPPED):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [
        f"{ids(path)}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("time.sleep", "sleep", "asyncio.sleep", "gevent.sleep")
    ]
    assert not calls, f"wait for a state with helpers.waiting, not for a time: {calls}"
