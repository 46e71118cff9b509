"""Work that all workers share is done once, and its failure is shared too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.once import once
from helpers.verdicts import Blocked, Inconclusive


def test_many_callers_compute_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, int]:
        calls.append(1)
        return {"answer": 42}

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: once(tmp_path, "thing", compute), range(8)))
    assert found == [{"answer": 42}] * 8
    assert len(calls) == 1


def test_a_failure_is_not_repeated(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> None:
        calls.append(1)
        raise OSError("no route")

    for _ in range(2):
        with pytest.raises(Inconclusive, match="OSError: no route"):
            once(tmp_path, "thing", compute)
    assert len(calls) == 1


def test_blocked_stays_blocked_for_others(tmp_path: Path) -> None:
    def compute() -> None:
        raise Blocked("CFG-009", "nodes are deaf")

    for _ in range(2):
        with pytest.raises(Blocked, match=r"CFG-009.*nodes are deaf") as caught:
            once(tmp_path, "gate", compute)
        assert caught.value.by == "CFG-009"
