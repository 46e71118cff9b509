"""Rules for tests under ``suites/``: each names its requirement and reads like a specification."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.requirements import requirements
from reports.__main__ import generated
from reports.inventory import SuiteTest, suite_tests

ROOT = Path(__file__).resolve().parents[2]
TESTS = suite_tests(ROOT)
EACH = pytest.mark.parametrize("test", TESTS, ids=lambda test: f"{test.file.stem}-{test.function}")
HEADINGS = ("Given", "Then", "Source")


def test_there_are_suites() -> None:
    assert TESTS, "suites/ has no tests: nothing would be proved"


@EACH
def test_name_begins_with_a_known_requirement(test: SuiteTest) -> None:
    assert test.requirement, f"{test.file}:{test.line}: {test.function} names no known requirement"


@EACH
def test_test_is_in_the_folder_of_its_group(test: SuiteTest) -> None:
    group = requirements()[test.requirement or ""].group
    assert test.file.parts[1] == group, f"{test.node_id} belongs to suites/{group}/"


@EACH
def test_docstring_is_a_specification(test: SuiteTest) -> None:
    missing = [
        heading
        for heading in HEADINGS
        if not re.search(rf"^\s*{heading}: *\S", test.docstring, re.MULTILINE)
    ]
    assert not missing, f"{test.file}:{test.line}: docstring of {test.function} lacks {missing}"


def test_function_names_are_unique_in_a_file() -> None:
    names = [test.node_id for test in TESTS]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"the first of these never runs: {twice}"


def test_generated_files_are_fresh() -> None:
    stale = [
        path.relative_to(ROOT)
        for path, text in generated(ROOT).items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"stale: {', '.join(map(str, stale))}; write them with: make docs"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """``pytest --collect-only suites`` without network, home directory and cluster."""
    empty = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "suites"]
    if os.geteuid() == 0 and shutil.which("unshare"):
        command = ["unshare", "--net", *command]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(empty),
        "XDG_CACHE_HOME": str(empty / "cache"),
        "XDG_STATE_HOME": str(empty / "state"),
        "KUBECONFIG": str(empty / "no-kubeconfig"),
    }
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_collection_needs_no_cluster_and_no_network(
    collected: subprocess.CompletedProcess[str],
) -> None:
    assert collected.returncode == 0, collected.stdout[-2000:] + collected.stderr[-2000:]


def test_every_family_of_a_requirement_is_collected(
    collected: subprocess.CompletedProcess[str],
) -> None:
    cases = collected.stdout.splitlines()
    for test in TESTS:
        requirement = requirements()[test.requirement or ""]
        for family in requirement.families:
            start = f"{test.node_id}["
            assert any(case.startswith(start) and family in case for case in cases), (
                f"{test.node_id} has no case for {family}"
            )
