"""Files beside a verdict: what was observed when it was decided."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from helpers.model import Verdict

# A capture or a rule dump is welcome, an endless log is not.
SIZE_LIMIT: Final = 2 * 1024 * 1024


@dataclass(slots=True)
class Evidence:
    """What one test case attached. Kept when the verdict is not pass, or on demand."""

    _files: list[tuple[str, str | bytes, bool]] = field(default_factory=list)
    _collectors: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    def attach(self, name: str, content: object, *, always: bool = False) -> None:
        """Attach a file: text and bytes as they are, anything else as JSON.

        Args:
            name: file name with extension, e.g. ``routes.txt``.
            always: keep it for a pass too.
        """
        self._files.append((name, _encode(content), always))

    def on_failure(self, name: str, collect: Callable[[], object]) -> None:
        """Collect a file only when the verdict is not pass, before the test's cleanup."""
        self._collectors.append((name, collect))

    def write(self, directory: Path, verdict: Verdict) -> list[Path]:
        """Write what the verdict deserves into ``directory``; the paths written.

        A collector that fails leaves its error in its file: evidence never changes a verdict.
        """
        kept = [(name, data) for name, data, always in self._files if always or _alarming(verdict)]
        if _alarming(verdict):
            kept += [(name, _collected(collect)) for name, collect in self._collectors]
        self._files.clear()
        return [_write(directory, name, data) for name, data in kept]


def _alarming(verdict: Verdict) -> bool:
    return verdict not in (Verdict.PASS, Verdict.SKIPPED)


def _collected(collect: Callable[[], object]) -> str | bytes:
    try:
        return _encode(collect())
    except Exception as error:  # the failure to report is the test's own
        return f"could not be collected: {type(error).__name__}: {error}\n"


def _encode(content: object) -> str | bytes:
    if isinstance(content, str | bytes):
        return content
    return json.dumps(content, indent=2, default=str, sort_keys=True) + "\n"


def _write(directory: Path, name: str, data: str | bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = _free(directory, re.sub(r"[^\w.+-]+", "_", name).strip("._") or "evidence")
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    if len(raw) > SIZE_LIMIT:
        raw = raw[:SIZE_LIMIT] + f"\n... cut at {SIZE_LIMIT} of {len(raw)} bytes\n".encode()
    path.write_bytes(raw)
    return path


def _free(directory: Path, name: str) -> Path:
    """A path that no other test of the same requirement has taken."""
    path = directory / name
    count = 1
    while path.exists():
        count += 1
        path = directory / f"{Path(name).stem}-{count}{Path(name).suffix}"
    return path
