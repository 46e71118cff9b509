"""The lab, once for all its tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.lab.topology import Lab, lab_running


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts and a router in network namespaces, with agents."""
    if os.geteuid() != 0:
        pytest.skip("the lab makes network namespaces: run it as root")
    if shutil.which("ip") is None:
        pytest.skip("the lab needs ip(8): install the package iproute2")
    with lab_running() as running:
        yield running
