"""Prebuilt packets leave through an agent, and each is known to have left or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.agents.client import Agent
from helpers.packets.nonce import Forged
from helpers.verdicts import Inconclusive


@dataclass(frozen=True, slots=True)
class Shot:
    """A packet and whether the sender's kernel took it."""

    packet: Forged
    sent: bool
    error: str | None

    def require_sent(self) -> None:
        """Demand that it left the sender's socket.

        Raises:
            Inconclusive: it did not: whatever follows says nothing of the network.
        """
        if not self.sent:
            raise Inconclusive(f"packet {self.packet.label} did not leave: {self.error}")


def send(
    agent: Agent,
    packets: Sequence[Forged],
    *,
    interface: str | None = None,
    interval: float = 0.0,
) -> list[Shot]:
    """Send packets in order; the kernel routes them by destination and leaves the source alone.

    Raises:
        Inconclusive: the agent was lost or may not use raw sockets.
    """
    families = {f"raw{packet.target.version}" for packet in packets}
    agent.require(*sorted(families))
    results = agent.call(
        "send_packets",
        len(packets) * interval + 10,
        packets=[packet.data.hex() for packet in packets],
        interface=interface,
        interval=interval,
    )
    return [
        Shot(packet, bool(result["sent"]), result["error"])
        for packet, result in zip(packets, results, strict=True)
    ]
