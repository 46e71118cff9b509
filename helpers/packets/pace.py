"""How fast packets are sent: as fast as the slowest node can send and capture them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from helpers.agents.client import Agent

INTERVAL: Final = 0.001  # seconds between two packets of a sender: 1,000 a second
# A guest's kernel was measured to send and see at most 750 a second when nothing else ran there.
# It also captures what the others send, so that nobody is faster than it.
GUEST_INTERVAL: Final = 0.004


def interval(agents: Iterable[Agent]) -> float:
    """Seconds between two packets of one sender, in the cluster of these agents."""
    return GUEST_INTERVAL if any(agent.guests for agent in agents) else INTERVAL
