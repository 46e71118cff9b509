"""Which Linux an agent runs on, where behaviour differs between releases."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent

RELEASE: Final = "/proc/sys/kernel/osrelease"

Version = tuple[int, int]


def version(text: str) -> Version:
    """``6.18.44-fc`` or ``7.2`` as (major, minor).

    Raises:
        ValueError: it begins otherwise.
    """
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"no kernel's version: {text!r}")
    return int(found[1]), int(found[2])


@cache
def kernel(agent: Agent) -> Version:
    """The kernel under an agent; asked once, because it is another agent after a reboot.

    Raises:
        Inconclusive: the agent was lost, or cannot read it.
    """
    told = agent.call_one("read_file", path=RELEASE)
    if told["text"] is None:
        raise Inconclusive(f"{agent.name}: {RELEASE}: {told['error']}")
    return version(told["text"])
