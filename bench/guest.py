"""What a node with a kernel of its own costs: ``python -m bench guest [--runs N]``.

Each run makes the `conformance` profile with and without its guest node, one after the other, and
asks the guest how it came up. No suite runs: ``python -m bench cluster`` measures whole runs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Final

from bench.cluster import GIB, ROOT, Target, call, steps
from clusters.guest import machine
from clusters.records import cluster_name, clusters_dir

WITH: Final = "cluster with the guest node Ready"
WITHOUT: Final = "cluster without it"
MEMORY: Final = "memory of the guest"
TARGETS: Final = (Target(WITH, "s", 150, 90), Target(WITHOUT, "s", 75, 40))


def measure_once(number: int) -> Mapping[str, float]:
    """Two clusters, made and removed: with the guest node, and without."""
    found = _made(f"bench-{os.getpid()}-{number}", WITH)
    return found | _made(f"bench-{os.getpid()}-{number}n", WITHOUT, "--without-guest")


def _made(name: str, what: str, *options: str) -> dict[str, float]:
    began = time.monotonic()
    try:
        call("clusters", "up", "--profile", "conformance", "--name", name, *options)
        found = {what: time.monotonic() - began}
        folder = clusters_dir() / cluster_name(name)
        timed = steps(name)
        for guest in machine.guests_of(folder):
            prefix = f"{guest.name} "
            for step, seconds in timed.items():
                if step.startswith(prefix):
                    found[f"  guest {step.removeprefix(prefix)} after its start"] = seconds
            found[MEMORY] = guest.memory() / GIB
    finally:
        subprocess.run([sys.executable, "-m", "clusters", "down", name], cwd=ROOT, check=False)
    return found


def main(runs: int) -> None:
    """Measure and print median, range and targets."""
    measured = [measure_once(number) for number in range(1, runs + 1)]
    targets = {target.name: target for target in TARGETS}
    print(f"\n{'':<38}{'median':>9}{'min':>9}{'max':>9}{'target':>9}{'wanted':>9}")
    for name in measured[0]:
        values = [each[name] for each in measured if name in each]
        row = f"{name:<38}{statistics.median(values):>9.1f}{min(values):>9.1f}{max(values):>9.1f}"
        target = targets.get(name)
        print(row + (f"{target.first:>9g}{target.wanted:>9g} {target.unit}" if target else ""))
