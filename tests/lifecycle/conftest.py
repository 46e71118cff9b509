"""Fixture ``project``: see ``tests.lifecycle.project``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import processes
from tests.lifecycle.project import INI, REPOSITORY, STAND_IN, USES_CLUSTER, Project, environment_of


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with one suite of six tests that use the cluster."""
    made = Project(tmp_path)
    made.environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "DSC_", "DOCKER"))},
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(REPOSITORY),
        "DSC_TEST_PROJECT": str(tmp_path),
    }
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "conftest.py").write_text(
        f'pytest_plugins = ["helpers.plugin_clusters"]\n'
        f"import runpy\nrunpy.run_path({str(STAND_IN)!r})['install']()\n"
    )
    made.suite("".join(USES_CLUSTER.format(n=n) for n in range(6)))
    yield made
    for child in made.started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        if child.stdout:
            child.stdout.close()
        child.wait()
    survivors = [
        p
        for p in processes.every()
        if environment_of(p.pid).get("DSC_TEST_PROJECT") == str(tmp_path)
    ]
    processes.end_all(survivors, grace=0.5)
