"""What is looked at on a host again and again, and processes that stand still for a while."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.agents.remote.monitors import Files, Freeze
from helpers.agents.remote.streams import Loop
from helpers.waiting import eventually

MARK = f"86400.{os.getpid()}"  # seconds of a sleep that is nobody else's


@pytest.fixture
def loop() -> Loop:
    return Loop({"lease": 5.0})


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", MARK]) as child:
        yield child
        child.kill()


def state(pid: int) -> str:
    """``S`` sleeps, ``T`` stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_file_that_is_made_changed_and_removed_is_three_events(
    loop: Loop, tmp_path: Path
) -> None:
    file = tmp_path / "10-calico.conflist"
    monitor = Files(loop, {"paths": [str(file)]})
    monitor.turn(0.0)
    for size in (10, 12):
        file.write_bytes(bytes(size))
        monitor.turn(0.0)
    file.unlink()
    monitor.turn(0.0)
    texts = [event["text"] for event in monitor.report()]
    assert [event["kind"] for event in monitor.report()] == ["cni"] * 3
    assert texts[0].startswith(f"{file}: absent -> 10 bytes")
    assert "-> 12 bytes" in texts[1]
    assert texts[2].endswith("-> absent")


def test_a_frozen_process_goes_on_when_its_time_is_over(
    loop: Loop, sleeper: subprocess.Popen[bytes]
) -> None:
    freeze = Freeze(loop, {"name": "sleep", "contains": MARK, "seconds": 60})
    eventually(lambda: state(sleeper.pid), lambda s: s == "T", within=5, what="it stands still")
    freeze.turn(time.monotonic())
    eventually(lambda: state(sleeper.pid), lambda s: s == "S", within=5, what="it goes on")
    told = [event["text"].rpartition(": ")[2] for event in freeze.report()]
    assert told == ["frozen", "thawed"]


def test_a_frozen_process_goes_on_when_the_loop_ends(sleeper: subprocess.Popen[bytes]) -> None:
    freeze = {"kind": "freeze", "name": "sleep", "contains": MARK, "seconds": 60}
    loop = Loop({"lease": 0.0, "monitors": [freeze]})
    eventually(lambda: state(sleeper.pid), lambda s: s == "T", within=5, what="it stands still")
    loop.run()
    eventually(lambda: state(sleeper.pid), lambda s: s == "S", within=5, what="it goes on")


def test_nothing_to_freeze_is_an_error(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="no process no-such-program"):
        Freeze(loop, {"name": "no-such-program", "seconds": 1})
