"""Signals of a run: terminations clean up like interrupts, and cleaning up is not interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from clusters.commands import Progress


def terminate_like_interrupt() -> None:
    """Let SIGTERM (a cancelled CI job, ``timeout``) raise KeyboardInterrupt, as Ctrl-C does.

    Python's default ends the process at once: no cleanup runs, clusters leak.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def uninterrupted(tell: Progress) -> Iterator[None]:
    """While the block runs, an impatient second Ctrl-C only gets an answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {
        number: signal.signal(number, lambda *_: tell("cleaning up, one moment"))
        for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
