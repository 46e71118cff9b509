"""Whether the harness itself loses packets: an agent sends to itself, and must see every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from helpers.model import Family, IPAddress
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.pace import INTERVAL, interval
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE, capturing_all
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent

PACKETS: Final = 2000
LOOPBACK: Final = "lo"
PORTS: Final = {"sport": 39_000, "dport": 9}


def lost_by_harness(
    agent: Agent, own: IPAddress, *, count: int = PACKETS, pause: float = INTERVAL
) -> int:
    """How many of ``count`` packets to itself the agent did not send or not see.

    Nothing but the agent and its kernel's loopback are involved, so that a loss is the harness's.

    Args:
        pause: seconds between two packets.

    Raises:
        Inconclusive: the agent was lost, or may not send or capture.
    """
    nonces = Nonce.fresh(count)
    data = [plain(own, own, upper.udp(own, own, nonce, **PORTS)).hex() for nonce in nonces]
    agent.require(f"raw{own.version}")
    with capturing_all({agent: [LOOPBACK]}, settle=SETTLE) as capture:
        deadline = count * (pause + 0.005) + 20
        agent.call("send_packets", deadline, packets=data, interval=pause)
    return sum(not capture.of(agent, LOOPBACK, nonce) for nonce in nonces)


def require_lossless(agent: Agent, own: IPAddress) -> None:
    """Demand that sending and capturing at the matrix's rate lose nothing here.

    Raises:
        Inconclusive: packets were lost, so that an absent one would prove nothing.
    """
    lost = lost_by_harness(agent, own, pause=interval([agent]))
    if lost:
        raise Inconclusive(
            f"{agent.name} lost {lost} of {PACKETS} {Family.of(own).kubernetes} packets to itself: "
            "the machine is too slow for this rate, so that lost packets prove nothing"
        )
