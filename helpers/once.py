"""Work that is done once per run, whichever worker asks first, and shared through the run's state.

A failure is shared too: repeating a five-minute failure in every worker helps nobody.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers.verdicts import Blocked, Inconclusive, Undecided


def once(state: Path, name: str, compute: Callable[[], Any]) -> Any:
    """Return the JSON value of ``compute()``, computed at most once per state directory.

    Args:
        state: directory shared by all workers of the run.
        name: file name of the record, without suffix.
        compute: returns something that JSON can hold.

    Raises:
        Undecided: what the one computation raised, again for every caller.
    """
    record = state / f"{name}.json"
    if not record.exists():
        state.mkdir(parents=True, exist_ok=True)
        with FileLock(state / f"{name}.lock"):
            if not record.exists():
                _write(record, _attempt(compute))
    stored = json.loads(record.read_text())
    if "error" in stored:
        raise _revived(stored["error"])
    return stored["value"]


def _attempt(compute: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": compute()}
    except Blocked as error:
        return {"error": {"by": error.by, "reason": error.reason}}
    except Exception as error:  # every worker must hear of it, whatever it is
        return {"error": {"reason": f"{type(error).__name__}: {error}"}}


def _revived(error: dict[str, str]) -> Undecided:
    if "by" in error:
        return Blocked(error["by"], error["reason"])
    return Inconclusive(error["reason"])


def _write(record: Path, value: dict[str, Any]) -> None:
    draft = record.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(value))
    draft.replace(record)
