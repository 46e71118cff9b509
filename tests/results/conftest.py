"""A small repository of its own for each test, in which pytest runs as a user would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CONFTEST = """
pytest_plugins = ["helpers.plugin_results", "reports.collect"]
"""
INI = """
[pytest]
strict = true
pythonpath = {repository}
testpaths = suites
addopts = -ra --import-mode=importlib --max-worker-restart=0
    -p no:cacheprovider -p no:hypothesispytest
filterwarnings = error
markers =
    disruptive: changes the cluster
    needs(*features): features
"""


@dataclass(frozen=True)
class Run:
    """What one run of pytest printed, returned and left."""

    code: int
    output: str
    root: Path

    @property
    def results(self) -> dict[str, Any]:
        text = (self.root / "reports" / "out" / "latest" / "results.json").read_text()
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        return {(r["id"], r["family"]): r["verdict"] for r in self.results["requirements"]}

    def entry(self, name: str, family: str) -> dict[str, Any]:
        found = [
            r for r in self.results["requirements"] if (r["id"], r["family"]) == (name, family)
        ]
        assert len(found) == 1, found
        return found[0]

    def file(self, name: str) -> str:
        return (self.root / "reports" / "out" / "latest" / name).read_text()


class Project:
    """A repository with suites; ``run`` is pytest in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "conftest.py").write_text(CONFTEST)
        (root / "pytest.ini").write_text(INI.format(repository=REPOSITORY))

    def suite(self, source: str, name: str = "services/test_services.py") -> None:
        head = (
            "import os, signal\nimport pytest\nfrom helpers.verdicts import Blocked, Inconclusive\n"
        )
        path = self.root / "suites" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + source)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", *arguments]

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return kept | {"COLUMNS": "160", "PYTHONPATH": str(REPOSITORY)}

    def run(self, *arguments: str) -> Run:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Run(done.returncode, done.stdout + done.stderr, self.root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
