"""How the image build tells what it does: one line per event, with elapsed time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clusters.commands import Progress


@dataclass(frozen=True, slots=True)
class Clock:
    """Reports steps with the time since the build began."""

    progress: Progress
    _start: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        """Shows a line, after the time since the build began."""
        elapsed = int(time.monotonic() - self._start)
        self.progress(f"[{elapsed // 60:02d}:{elapsed % 60:02d}] {line}")

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Reports the begin and the end of a step."""
        self.say(f"{name}: {what}")
        begin = time.monotonic()
        yield
        self.say(f"{name}: done in {time.monotonic() - begin:.0f} s")
