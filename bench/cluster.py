"""What a run costs on this machine: ``python -m bench cluster [--runs N]``.

Each run is one whole life as a user starts it: a new cluster with warm caches, all suites at
``-n4``, teardown. The targets are the budgets of docs/architecture.md.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reports.model import read

ROOT: Final = Path(__file__).resolve().parent.parent
WORKERS: Final = 4
GIB: Final = 1 << 30
SAMPLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """A budget: what it is about, its unit, the first target and where we want to be."""

    name: str
    unit: str
    first: float
    wanted: float


TARGETS: Final = (
    Target("cluster with Calico Ready", "s", 75, 40),
    Target("suites after the cluster is ready", "s", 240, 90),
    Target("whole run, warm caches", "s", 400, 180),
    Target("memory of the whole run", "GiB", 6, 4),
)


def available_memory() -> int:
    """MemAvailable in bytes (/proc/meminfo)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable")


class MemoryWatch(threading.Thread):
    """Samples how much memory is gone since its start; a lower bound of the peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._before = available_memory()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self._before - available_memory())

    def stop(self) -> int:
        """End and return the peak in bytes."""
        self._over.set()
        self.join()
        return self.peak


def measure_once(number: int) -> Mapping[str, float]:
    """One cluster, one run of the suites, one teardown.

    Raises:
        SystemExit: the cluster could not be made, or not every core requirement passed: the
            figures of a broken run measure nothing.
    """
    name = f"bench-{os.getpid()}-{number}"
    watch = MemoryWatch()
    watch.start()
    began = time.monotonic()
    try:
        call("clusters", "up", "--name", name)
        ready = time.monotonic() - began
        timed = steps(name)
        tests = time.monotonic()
        call("pytest", "suites", f"-n{WORKERS}", "--reuse-cluster", name, "-q", "--no-header")
        suites = time.monotonic() - tests
    finally:
        subprocess.run([sys.executable, "-m", "clusters", "down", name], cwd=ROOT, check=False)
    whole = time.monotonic() - began
    results = read(ROOT / "reports" / "out" / "latest")
    passed = sum(1 for found in results.requirements if found.verdict == "pass")
    print(f"run {number}: {passed} verdicts pass, {results.summary.exit_reason}", flush=True)
    return {
        "cluster with Calico Ready": ready,
        **{f"  of it: {step}": seconds for step, seconds in timed.items()},
        "suites after the cluster is ready": suites,
        "whole run, warm caches": whole,
        "memory of the whole run": watch.stop() / GIB,
    }


def steps(name: str) -> dict[str, float]:
    """How long each step of making a cluster took, as its maker wrote it down."""
    from clusters.records import cluster_name, clusters_dir

    found: dict[str, float] = json.loads(
        (clusters_dir() / cluster_name(name) / "seconds.json").read_text()
    )
    return found


def call(module: str, *arguments: str) -> None:
    """Run one of this product's commands.

    Raises:
        SystemExit: it failed; the figures of a broken run measure nothing.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: nothing was measured")


def main(runs: int) -> None:
    """Measure and print median, range and targets."""
    measured = [measure_once(number) for number in range(1, runs + 1)]
    targets = {target.name: target for target in TARGETS}
    print(f"\n{'':<38}{'median':>9}{'min':>9}{'max':>9}{'target':>9}{'wanted':>9}")
    for name in measured[0]:
        values = [each[name] for each in measured if name in each]
        median, low, high = statistics.median(values), min(values), max(values)
        row = f"{name:<38}{median:>9.1f}{low:>9.1f}{high:>9.1f}"
        target = targets.get(name)
        print(row + (f"{target.first:>9g}{target.wanted:>9g} {target.unit}" if target else ""))
