"""One slow node slows all senders: it captures what they send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from helpers.packets.pace import GUEST_INTERVAL, INTERVAL, interval


def test_nobody_is_faster_than_a_guest() -> None:
    native: Any = SimpleNamespace(guests=False)
    beside_a_guest: Any = SimpleNamespace(guests=True)
    assert interval([native]) == INTERVAL
    assert interval([native, beside_a_guest]) == GUEST_INTERVAL > INTERVAL
