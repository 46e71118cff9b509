"""``--prove`` and ``--requirements`` on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.faults.expectations import expectations

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """pytest on the suites, with neither cluster nor cache nor state."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "suites", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_faults_are_collected_instead_of_tests(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--prove", "--collect-only", "-q", "-n2")
    assert code == 0, said
    listed = [line for line in said.splitlines() if "::" in line]
    rows = [expectations()[line.partition("::")[2]] for line in listed]
    assert {row.id for row in rows} == expectations().keys()
    assert rows[0].id == "B0"
    assert [row.cost for row in rows[1:]] == sorted(row.cost for row in rows[1:])


def test_named_faults_come_with_the_cheap_ones_first(tmp_path: Path) -> None:
    _, said = run(tmp_path, "--prove=F15,F11,F12", "--collect-only", "-q")
    listed = [line.rpartition("::")[2] for line in said.splitlines() if "::" in line]
    assert listed == ["F12", "F15", "F11"]


def test_without_the_option_faults_are_no_tests(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--collect-only", "-q", "--requirements=CFG-001,CONN-001")
    listed = [line for line in said.splitlines() if "::" in line]
    assert code == 0, said
    assert len(listed) == 3
    assert all("cfg_001" in line or "conn_001" in line for line in listed)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--prove=F12,F99",), "no fault F99; known: B0"),
        (("--prove", "--cluster=existing"), "leave out --cluster=existing"),
        (("--requirements=CFG-999",), "there is no requirement CFG-999"),
    ],
)
def test_mistakes_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    code, said = run(tmp_path, *arguments)
    assert says in said
    assert code in (2, 4)  # 4: refused by pytest itself, before any plugin is asked
    assert not (tmp_path / "state").exists(), "nothing is made for a mistake"
