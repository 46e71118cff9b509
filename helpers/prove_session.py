"""One pytest session that decides some requirements, as a user would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helpers.faults.bench import FaultError
from helpers.faults.comparison import Seen
from helpers.faults.expectations import Key
from helpers.model import Verdict

SESSION_SECONDS: Final = 900.0
ENDING_SECONDS: Final = 60.0  # that a session gets to clean up when it is stopped
RESULTS_FILE: Final = "results.json"
UNKNOWN: Final = "unknown"  # a diagnosis that names no cause


@dataclass(slots=True)
class Session:
    """Verdicts of one pytest session."""

    folder: Path
    seen: Mapping[Key, Seen]
    diagnoses: tuple[str, ...] = ()


def decide(
    cluster: str,
    chosen: Iterable[str],
    folder: Path,
    *,
    root: Path,
    workers: int,
    environment: Mapping[str, str],
) -> Session:
    """Decide some requirements on a cluster that is there.

    Args:
        folder: for its reports and its log.
        root: of the repository.
        workers: ``-n`` of the session.
        environment: variables beside those of this process.

    Raises:
        FaultError: it brought no verdicts; the message has the end of its output.
    """
    options = ["--requirements", ",".join(sorted(chosen)), f"-n{workers}"]
    options += ["--reuse-cluster", cluster]
    options += ["--disruptive=long"]  # a row that names such a requirement wants it judged
    run(options, folder, root=root, environment=environment)
    return read(folder)


def run(
    options: Sequence[str],
    folder: Path,
    *,
    root: Path,
    environment: Mapping[str, str] | None = None,
    within: float = SESSION_SECONDS,
) -> int:
    """One session of the suites, with its reports and its log in a folder.

    Args:
        options: of pytest.
        within: seconds after which it is ended.

    Returns:
        what it exited with; negative: the signal that ended it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "suites", "-p", "no:cacheprovider", "-q"]
    command += [*options, "--reports-dir", str(folder)]
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    with (folder / "pytest.log").open("w") as log:
        child = subprocess.Popen(
            command,
            cwd=root,
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # ended by us alone, after it was asked to clean up
        )
        _wait(child, within)
    return child.returncode


def _wait(child: subprocess.Popen[bytes], within: float) -> None:
    try:
        child.wait(within)
    except subprocess.TimeoutExpired:
        _end(child)
    except BaseException:
        _end(child)
        raise


def _end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def read(folder: Path) -> Session:
    made = folder / "latest"
    try:
        data = json.loads((made / RESULTS_FILE).read_text(encoding="utf-8"))
    except OSError:
        tail = (folder / "pytest.log").read_text(encoding="utf-8", errors="replace")[-1500:]
        raise FaultError(f"the session brought no verdicts ({folder}): {tail}") from None
    if not data["run"]["complete"]:
        raise FaultError(f"the session did not end ({folder}): {data['summary']['exitReason']}")
    seen = {
        (entry["id"], entry["family"]): Seen(
            Verdict(entry["verdict"]), entry["reason"], entry.get("blockedBy")
        )
        for entry in data["requirements"]
    }
    told = tuple(entry["rule"] or UNKNOWN for entry in data.get("diagnoses") or ())
    return Session(made.resolve(), seen, told)
