"""How the image build tells what it does: one line per event, with elapsed time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clusters.commands import Progress


@dataclass(slots=True)
class Clock:
    """Reports steps with the time since the build began, and remembers how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
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
        self.seconds[name] = round(time.monotonic() - begin, 1)
        self.say(f"{name}: done in {self.seconds[name]:.0f} s")
