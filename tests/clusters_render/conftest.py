"""Upstream's released manifests, as the Go module proxy serves them, and small inputs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clusters.calico import read_documents
from clusters.kernel import KernelFacts

MODULE = "github.com/projectcalico/calico"
# The commits that Calico's release tags name, as pseudo-versions.
RELEASES = {
    "3.31.0": "v0.0.0-20251021213802-b1f3c43f8437",
    "3.30.1": "v0.0.0-20250529224300-393b14e729a6",
    "3.29.0": "v0.0.0-20241104220808-b559a703e1c0",
}


def _module_folder(version: str) -> Path:
    """The module in Go's cache; downloaded (60 MB) when it is not there.

    Skips only where there is no Go, which builds everything else of this project too.
    """
    argv = ["go", "mod", "download", "-json", f"{MODULE}@{version}"]
    environment = os.environ | {
        "GOFLAGS": "-mod=mod",
        "GOWORK": "off",
        "GONOSUMDB": "github.com/projectcalico/*",
    }
    if not shutil.which("go"):
        pytest.skip(f"go is not installed, the released manifest comes from: {' '.join(argv)}")
    done = subprocess.run(
        argv, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=600
    )
    answer = json.loads(done.stdout or "{}")
    assert "Dir" in answer, f"{' '.join(argv)} failed: {answer.get('Error') or done.stderr}"
    return Path(answer["Dir"])


@pytest.fixture(scope="session")
def manifests() -> dict[str, Path]:
    return {
        release: _module_folder(version) / "manifests" / "calico.yaml"
        for release, version in RELEASES.items()
    }


@pytest.fixture(scope="session")
def released_documents(manifests: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    return {release: read_documents(path) for release, path in manifests.items()}


@pytest.fixture
def kernel_with_ipvs() -> KernelFacts:
    return KernelFacts("6.1.0", frozenset(), frozenset({"ip_vs", "ip_vs_rr", "dummy"}), True)


@pytest.fixture
def kernel_without_ipvs() -> KernelFacts:
    return KernelFacts("6.18.0", frozenset(), frozenset(), False)
