"""Child processes: failures are explained, and nothing outlives the build."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clusters.images.errors import CancelledError, StepFailedError
from clusters.images.process import DIES_WITH_BUILDER, UNLESS_ORPHANED, Children

REPOSITORY = Path(__file__).parents[2]
SLEEPER = [sys.executable, "-c", "print('up', flush=True); import signal; signal.pause()"]
KILLED_BUILDER = f"""
from pathlib import Path
from clusters.images.process import Children
with Children().started({SLEEPER!r}, Path("log")) as child:
    print(child.pid, flush=True)
    child.wait()
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "step.log"


def failing(text: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit(3)"]


def test_output_is_returned_and_errors_are_logged(log: Path) -> None:
    program = "import sys; print('answer'); print('note', file=sys.stderr)"
    assert Children().output([sys.executable, "-c", program], log) == "answer"
    assert log.read_text() == "note\n"


def test_failed_command_shows_the_end_of_its_log_and_where_it_is(log: Path) -> None:
    text = "\n".join(f"line {number}" for number in range(100))
    with pytest.raises(StepFailedError) as caught:
        Children().run(failing(text), log)
    message = str(caught.value)
    assert "exit status 3" in message
    assert "| line 99" in message
    assert "| line 10\n" not in message
    assert str(log) in message
    assert "finished steps are kept" in message


@pytest.mark.parametrize(
    ("sign", "fix"),
    [
        ("write x: No space left on device", "images prune"),
        ("go: go.mod requires go >= 1.26.8 (running go 1.24.0)", "GOTOOLCHAIN"),
        ("verifying module: checksum mismatch", "GOPROXY"),
        ("dial tcp: lookup x: no such host", "network"),
    ],
)
def test_likely_fix_follows_the_log(sign: str, fix: str, log: Path) -> None:
    with pytest.raises(StepFailedError, match=fix):
        Children().run(failing(sign), log)


def test_missing_program_is_named(log: Path) -> None:
    with pytest.raises(StepFailedError, match="debootstrapp was not found"):
        Children().run(["debootstrapp"], log)


def test_cancel_ends_a_running_command_and_refuses_others(log: Path) -> None:
    children = Children()
    started = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with children.started(SLEEPER, log, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                child.stdout.readline()
                started.set()
                child.wait()
            children.run(SLEEPER, log)
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    children.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1


def test_error_in_the_block_ends_the_command(log: Path) -> None:
    with pytest.raises(RuntimeError), Children().started(SLEEPER, log) as child:
        raise RuntimeError
    assert child.returncode == -signal.SIGTERM


def test_command_dies_with_a_killed_builder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_BUILDER],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE, text=True,
    ) as builder:  # fmt: skip
        assert builder.stdout is not None
        child = os.pidfd_open(int(builder.stdout.readline()))
        builder.kill()
    try:  # a pidfd becomes readable when its process is gone
        assert _readable(child, seconds=10)
    finally:
        os.close(child)


def test_command_of_a_builder_that_died_before_it_began_does_not_run() -> None:
    someone_else = "1"
    argv = [*DIES_WITH_BUILDER, UNLESS_ORPHANED, someone_else, "echo", "ran"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def _readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
