"""A bench whose only node is this machine: commands of faults run here, on files of the test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from helpers.faults.bench import Bench, CommandError


@dataclass
class LocalBench:
    """Runs what a fault would run on a node."""

    ran: list[tuple[str, ...]] = field(default_factory=list)
    refuse: str = ""  # a word: commands that contain it fail
    has_agents: bool = True

    def run(self, node: str, *argv: str, check: bool = True, timeout: float = 30.0) -> str:
        self.ran.append(argv)
        if self.refuse and any(self.refuse in word for word in argv):
            raise CommandError(f"{node} refuses")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise CommandError(f"{node}: {done.stderr}")
        return done.stdout

    def shell(self, node: str, script: str, *arguments: str, check: bool = True) -> str:
        return self.run(node, "sh", "-c", script, "sh", *arguments, check=check)


@pytest.fixture
def local() -> LocalBench:
    return LocalBench()


@pytest.fixture
def bench(local: LocalBench) -> Bench:
    return cast(Bench, local)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a cluster."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    return folder


OWNER: dict[str, Any] = {"pid": 1, "started": 1, "boot": "x"}
