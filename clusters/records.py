"""What is known on disk of runs and clusters, so that any process can find and remove them.

state_dir()/
  engine.json, engine.lock           clusters.engine
  runs/RUN/run.json                  who runs: pid with start time, command line
  runs/RUN/NAME.lock                 held while this run's cluster NAME is being made
  clusters/NAME/intent.json          written before anything of NAME is made
  clusters/NAME/record.json          {"cluster": ...} or {"error": ...}: never tried again
  clusters/NAME/fault.json           while a fault is planted: how it is healed (helpers.faults)
  clusters/NAME/...                  kubeconfig, logs, the run's shared state
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from clusters.processes import Identity
from helpers.naming import PREFIX, state_dir

RUN_FILE: Final = "run.json"
INTENT_FILE: Final = "intent.json"
RECORD_FILE: Final = "record.json"


def runs_dir() -> Path:
    return state_dir() / "runs"


def clusters_dir() -> Path:
    return state_dir() / "clusters"


def new_run_id() -> str:
    """Time and chance: readable, sortable, and short enough for the names of nodes."""
    return f"{time.strftime('%m%d-%H%M')}-{secrets.token_hex(2)}"


def cluster_name(name: str) -> str:
    """The full name of a cluster that a person calls ``dev`` or ``dsc-dev``."""
    return name if name.startswith(f"{PREFIX}-") else f"{PREFIX}-{name}"


def run_cluster_name(run: str, profile: str) -> str:
    # 63 characters are a host name; kind appends "-control-plane2" to it.
    return f"{PREFIX}-{run}-{profile[:24].replace('.', '-').strip('-')}"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of pytest or of ``python -m clusters up``.

    Attributes:
        owner: the controlling process; the run is over when it is gone.
    """

    id: str
    owner: Identity
    argv: tuple[str, ...]
    since: str

    @property
    def folder(self) -> Path:
        return runs_dir() / self.id

    @property
    def alive(self) -> bool:
        return self.owner.alive

    def write(self) -> None:
        write_json(
            self.folder / RUN_FILE,
            {
                "id": self.id,
                "owner": self.owner.to_json(),
                "argv": list(self.argv),
                "since": self.since,
            },
        )

    @classmethod
    def read(cls, folder: Path) -> RunRecord | None:
        """The record in a folder; None when it is not there or was cut short by a crash."""
        data = read_json(folder / RUN_FILE)
        if data is None:
            return None
        owner = Identity.from_json(data["owner"])
        return cls(data["id"], owner, tuple(data["argv"]), data["since"])


@dataclass(frozen=True, slots=True)
class Intent:
    """A cluster that is to be made, or was.

    Attributes:
        provider: name of the provider that removes it.
        engine: what the provider needs to reach the engine, as plain data.
        kept: whether it is to outlive its run.
    """

    name: str
    run: str
    provider: str
    engine: Mapping[str, Any]
    maker: Identity
    since: str
    kept: bool = False

    @property
    def folder(self) -> Path:
        return clusters_dir() / self.name

    def keep(self) -> Intent:
        """The same, kept from now on."""
        kept = replace(self, kept=True)
        kept.write()
        return kept

    def write(self) -> None:
        write_json(
            self.folder / INTENT_FILE,
            {
                "name": self.name,
                "run": self.run,
                "provider": self.provider,
                "engine": dict(self.engine),
                "maker": self.maker.to_json(),
                "since": self.since,
                "kept": self.kept,
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Intent | None:
        """The intent in a folder; None when it is not there or was cut short by a crash."""
        data = read_json(folder / INTENT_FILE)
        if data is None:
            return None
        maker = Identity.from_json(data.pop("maker"))
        return cls(**data, maker=maker)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def all_runs() -> Iterator[RunRecord]:
    for folder in _folders(runs_dir()):
        record = RunRecord.read(folder)
        if record is not None:
            yield record


def all_intents() -> Iterator[Intent]:
    for folder in _folders(clusters_dir()):
        intent = Intent.read(folder)
        if intent is not None:
            yield intent


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when the file is missing or was cut short by a crash."""
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return data if isinstance(data, dict) else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file that is there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    draft.write_text(json.dumps(data, indent=1))
    draft.replace(path)


def tidy() -> None:
    """Remove what a crash left without a record, and folders that are empty now."""
    for folder in _folders(runs_dir()):
        if RunRecord.read(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
    for folder in _folders(clusters_dir()):
        if Intent.read(folder) is None:  # made before its intent: nothing was begun
            shutil.rmtree(folder, ignore_errors=True)
    for folder in (runs_dir(), clusters_dir()):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
