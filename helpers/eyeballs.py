"""Clients that know a name with addresses of both families: which one they take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from helpers.model import Family, IPAddress
from helpers.verdicts import Blocked, Inconclusive
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent

SCRIPT: Final = Path(__file__).with_name("eyeballs_client.py")
RESOLVED_WITHIN: Final = 20.0  # seconds; the cluster's DNS asks others for names of the outside
CONNECTED_WITHIN: Final = 5.0  # seconds; RFC 8305 tries the next address after 0.25


@dataclass(frozen=True, slots=True)
class Choice:
    """What a Happy Eyeballs client connected to; ``error`` when to nothing."""

    address: IPAddress | None
    milliseconds: float | None
    error: str | None


def preferred(client: Agent, name: str) -> list[str]:
    """Addresses of a name in the order that the client's C library gives them (RFC 6724).

    Raises:
        Blocked: by EGR-009, when the name is not resolved.
    """
    try:
        return eventually(
            lambda: list(client.call_one("getaddrinfo", 20, host=name)["addresses"]),
            bool,
            within=RESOLVED_WITHIN,
            what=f"{client.name} resolves {name}",
        )
    except NotSettled as error:
        raise Blocked("EGR-009", str(error)) from error


def connect(client: Agent, name: str, port: int) -> Choice:
    """Let a client in a pod connect to a name as RFC 8305 says.

    Raises:
        Inconclusive: the client program itself did not run.
    """
    argv = ["python3", "-c", SCRIPT.read_text(), name, str(port), str(CONNECTED_WITHIN)]
    # Twice: the time for names that are asked of a server which does not answer.
    done = client.call_one("run", 3 * CONNECTED_WITHIN, argv=argv, timeout=2 * CONNECTED_WITHIN)
    if done["rc"] != 0:
        raise Inconclusive(f"{client.name}: the client did not run: {done['stderr'][-300:]}")
    told = json.loads(done["stdout"])
    address = ip_address(told["address"]) if told["address"] else None
    return Choice(address, told["ms"], told["error"])


def choice_finding(choice: Choice, name: str, alive: Family) -> list[str]:
    """EGR-010: with one family dead the client must have come through over the other."""
    if choice.address is not None and Family.of(choice.address) is alive:
        return []
    dead = alive.other.kubernetes
    return [
        f"with {dead} dead a Happy Eyeballs client does not reach {name} over {alive.kubernetes} "
        f"within {CONNECTED_WITHIN:g} s ({choice.error or choice.address}): does the name resolve "
        f"to {alive.record} in pods?"
    ]
