"""A profile with a guest node, as the reference machine resolves it, and files to make it of."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusters.images import GuestFiles
from clusters.kernel import KernelFacts
from clusters.spec import ClusterSpec, load_profile


@pytest.fixture
def spec() -> ClusterSpec:
    without_ipvs = KernelFacts("6.18.0", frozenset(), frozenset(), False)
    return load_profile("conformance").resolved(without_ipvs)


@pytest.fixture
def files(tmp_path: Path) -> GuestFiles:
    return GuestFiles(tmp_path / "linux", tmp_path / "disk.ext4")
