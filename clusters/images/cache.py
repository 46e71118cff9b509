"""The build cache: one directory per finished step, named by the content of its inputs.

A step works in a directory whose name begins with a dot and is renamed when it is complete: a
directory without the dot is always whole, and an interrupted build resumes after the last
complete step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from clusters.commands import Progress

KEY_LENGTH = 12
WORKING = "."  # prefix of a directory that is not complete


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Where images are kept: $XDG_CACHE_HOME (~/.cache)/dualstack-conformance/images."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dualstack-conformance" / "images"


def content_key(inputs: Mapping[str, object], files: Iterable[Path] = ()) -> str:
    """Hash of JSON-able inputs and of the names and contents of files; 64 hex digits."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for path in sorted(files):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory of the cache: its size in bytes and the time since it was completed."""

    path: Path
    complete: bool
    size: int
    age: timedelta


@dataclass(frozen=True, slots=True)
class Cache:
    """A directory of step results that several builders may share."""

    root: Path

    def entry(self, step: str, key: str) -> Path:
        """Directory of a step's result; it exists only when the step is complete."""
        return self.root / f"{step}-{key[:KEY_LENGTH]}"

    def log(self, step: str) -> Path:
        """File that collects the output of a step's commands."""
        return self.root / "logs" / f"{step}.log"

    @contextlib.contextmanager
    def making(self, step: str, key: str) -> Iterator[Path]:
        """A new working directory that becomes the step's result when the block succeeds.

        Leftovers of an interrupted attempt are removed first, this attempt's when it fails.
        """
        target = self.entry(step, key)
        working = target.with_name(WORKING + target.name)
        remove_tree(working)
        working.mkdir(parents=True)
        try:
            yield working
            working.rename(target)
        except BaseException:
            remove_tree(working)
            raise

    @contextlib.contextmanager
    def locked(self, progress: Progress) -> Iterator[None]:
        """Holds the cache's lock; says so when another builder has it and waits for its end."""
        self.root.mkdir(parents=True, exist_ok=True)
        holder = self.root / "lock.pid"
        lock = FileLock(self.root / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pid = holder.read_text().strip() if holder.exists() else "unknown"
            progress(f"another image build is running (process {pid}); waiting for it to end")
            lock.acquire()
        try:
            holder.write_text(f"{os.getpid()}\n")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def entries(self) -> list[Entry]:
        """All step directories, complete or not, by name."""
        if not self.root.is_dir():
            return []
        found = sorted(
            path for path in self.root.iterdir() if path.is_dir() and path.name != "logs"
        )
        return [_measure(path) for path in found]

    def prune(self, keep: Iterable[Path]) -> list[Entry]:
        """Removes every entry that is not in `keep`, and all incomplete ones.

        The caller holds the lock. Returns what was removed.
        """
        kept = set(keep)
        doomed = [each for each in self.entries() if not each.complete or each.path not in kept]
        for each in doomed:
            remove_tree(each.path)
        return doomed


def remove_tree(path: Path) -> None:
    """Removes a directory tree, if it is there, without ever following a mount out of it.

    A killed builder leaves no mounts (its steps mount in namespaces of their own), but removing
    through a mount that someone else put there would remove that one's files.
    """
    if not path.exists():
        return
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(path)


def _measure(path: Path) -> Entry:
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            size += (Path(folder) / name).lstat().st_blocks * 512
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Entry(
        path=path,
        complete=not path.name.startswith(WORKING),
        size=size,
        age=datetime.now(UTC) - changed,
    )
