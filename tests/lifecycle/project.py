"""A small project in which pytest runs as a user would run it, with clusters that cost nothing.

Its provider stands in for kind only: options, registry, locks, signals and teardown are the real
ones. In ``live`` tests it makes a real container in a real private Docker engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusters import processes
from helpers.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("stand_in.py")
INI = f"""
[pytest]
pythonpath = {REPOSITORY}
testpaths = suites
addopts = -ra --import-mode=importlib -p no:cacheprovider -p no:hypothesispytest
filterwarnings = error
markers =
    disruptive: changes the cluster
"""
USES_CLUSTER = "def test_{n}(cluster):\n    assert cluster.name.startswith('dsc-')\n"


@dataclass
class Project:
    """One project directory with a cache and a state of its own."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.root / "state" / "dualstack-conformance"

    @property
    def events(self) -> list[str]:
        """What the stand-in did, in order: ``create NAME``, ``remove NAME``, ..."""
        path = self.root / "events.log"
        return path.read_text().splitlines() if path.exists() else []

    def count(self, word: str) -> int:
        return sum(event.split()[0] == word for event in self.events)

    @property
    def left(self) -> list[str]:
        """Everything of ours that is still there: files of the state, "containers", processes."""
        files = [str(p) for p in (self.root / "state").rglob("*") if p.is_file()]
        made = [str(p) for p in (self.root / "made").glob("*")]
        mark = f"{self.root}"
        alive = [
            str(p) for p in processes.every()
            if mark in environment_of(p.pid).get("DSC_TEST_PROJECT", "")
        ]  # fmt: skip
        return [*files, *made, *alive]

    def suite(self, text: str, name: str = "test_it.py") -> None:
        path = self.root / "suites" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def start(self, *arguments: str, mode: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start pytest in a process group of its own, so that a Ctrl-C can be sent to all of it."""
        crashes = [] if "no:xdist" in arguments else ["--max-worker-restart=0"]
        command = [sys.executable, "-m", "pytest", *crashes, *arguments]
        return self._start(command, {"DSC_TEST_MODE": mode, **environment})

    def pytest(self, *arguments: str, mode: str = "", timeout: float = 120) -> tuple[int, str]:
        """Run pytest to its end: exit code and output."""
        child = self.start(*arguments, mode=mode)
        output, _ = child.communicate(timeout=timeout)
        return child.returncode, output

    def clusters(self, *arguments: str, mode: str = "", timeout: float = 60) -> tuple[int, str]:
        """Run ``python -m clusters`` with the stand-in known to it."""
        command = [sys.executable, str(STAND_IN), *arguments]
        child = self._start(command, {"DSC_TEST_MODE": mode})
        output, _ = child.communicate(timeout=timeout)
        return child.returncode, output

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(child)
        return child

    def wait_for(self, event: str, within: float = 60) -> None:
        """Wait until the stand-in did something."""
        eventually(
            lambda: self.events,
            lambda events: any(line.startswith(event) for line in events),
            within=within,
            every=0.05,
            what=f"event {event!r}",
        )


def interrupt(child: subprocess.Popen[str], number: signal.Signals, *, group: bool) -> str:
    """Send a signal as a terminal does (to the group) or as ``kill`` does; the output."""
    if group:
        os.killpg(child.pid, number)
    else:
        child.send_signal(number)
    output, _ = child.communicate(timeout=60)
    return output


def environment_of(pid: int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def records(project: Project, pattern: str) -> list[dict[str, Any]]:
    """JSON records of the state that match a pattern."""
    return [json.loads(path.read_text()) for path in project.state.glob(pattern)]
