"""What a healthy dual-stack cluster answered: Kubernetes 1.36.4, Calico 3.31.0, nftables.

The tests change single values of it into what a fault makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.calico import BlockAffinity, IPPool
from helpers.netstate import NetState
from helpers.platforms import CalicoNode
from helpers.views import NodeView, PodView

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def recorded() -> Callable[[str], Any]:
    """A recording by file name: JSON parsed, text as it is. A new copy each time."""

    def read(name: str) -> Any:
        text = (RECORDED / name).read_text()
        return json.loads(text) if name.endswith(".json") else text

    return read


@pytest.fixture
def states(recorded: Callable[[str], Any]) -> dict[str, NetState]:
    return {name: NetState.from_facts(raw) for name, raw in recorded("states.json").items()}


@pytest.fixture
def nodes(recorded: Callable[[str], Any]) -> list[NodeView]:
    return [NodeView.from_api(item) for item in recorded("nodes.json")]


@pytest.fixture
def calico_nodes(recorded: Callable[[str], Any]) -> dict[str, CalicoNode]:
    return {name: CalicoNode(**raw) for name, raw in recorded("calico_nodes.json").items()}


@pytest.fixture
def pools(recorded: Callable[[str], Any]) -> list[IPPool]:
    return [IPPool.from_api(item) for item in recorded("pools.json")]


@pytest.fixture
def affinities(recorded: Callable[[str], Any]) -> list[BlockAffinity]:
    return [BlockAffinity.from_api(item) for item in recorded("affinities.json")]


@pytest.fixture
def pods(recorded: Callable[[str], Any]) -> list[PodView]:
    return [PodView.from_api(item) for item in recorded("pods.json")]
