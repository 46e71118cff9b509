"""One-way UDP: numbered datagrams, and what the receiver saw of them.

A reply proves both directions at once and its absence neither. Here the receiver's own sightings
decide, so that a loss has a direction.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from ipaddress import ip_address

from helpers.agents.client import Agent
from helpers.model import Family, IPAddress
from helpers.verdicts import Inconclusive


@dataclass(frozen=True, slots=True)
class OneWay:
    """Datagrams of one flow.

    Attributes:
        count: how many the sender tried to send.
        sent: sequence numbers that left the sender's socket.
        received: sequence numbers that the receiver saw, in order of arrival.
        sources: source addresses that the receiver saw.
        hops: TTL or hop limit values that the receiver saw.
        send_errors: what the sender's kernel said of those that did not leave.
    """

    count: int
    sent: tuple[int, ...]
    received: tuple[int, ...]
    sources: frozenset[IPAddress]
    hops: frozenset[int]
    send_errors: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[int, ...]:
        """Numbers that did not arrive, whether they left or the sender had no way to send them."""
        return tuple(sorted(set(range(self.count)) - set(self.received)))

    @property
    def duplicated(self) -> tuple[int, ...]:
        return tuple(sorted({n for n in self.received if self.received.count(n) > 1}))

    def __str__(self) -> str:
        return f"{len(set(self.received))}/{self.count} datagrams arrived"


def one_way(
    sender: Agent,
    receiver: Agent,
    family: Family,
    count: int = 20,
    target: IPAddress | None = None,
    *,
    interval: float = 0.005,
    size: int = 64,
    patience: float = 1.0,
    hop_limit: int | None = None,
    nonce: str | None = None,
) -> OneWay:
    """Send ``count`` datagrams and ask the receiver which of them it saw.

    Args:
        target: where to send to; default: the receiver's address of this family.
        interval: seconds between two datagrams.
        patience: seconds to wait for stragglers after the last one was sent.
        hop_limit: TTL or hop limit to send with.
        nonce: what marks the datagrams, where a capture must know it; default: a random one.

    Raises:
        Inconclusive: an agent was lost, or the sender failed for reasons of its own.
        LookupError: the receiver has no address of this family and no target was given.
    """
    target = target or receiver.addresses.require(family)
    nonce = nonce or secrets.token_hex(8)
    listener = receiver.call_one("udp_listen", version=family.version)
    try:
        outgoing = sender.call(
            "udp_send",
            count * interval + 10,
            target=str(target),
            port=listener["port"],
            count=count,
            nonce=nonce,
            interval=interval,
            size=size,
            hops=hop_limit,
        )
        sent = tuple(o["sequence"] for o in outgoing if o["sent"])
        sightings = receiver.call(
            "udp_collect",
            patience + 5,
            handle=listener["handle"],
            nonce=nonce,
            expect=len(sent),
            wait=patience,
        )
    finally:
        receiver.call("close", handle=listener["handle"])
    errors = tuple(sorted({o["error"] for o in outgoing if o["error"]}))
    if any(o["outcome"] == "inconclusive" for o in outgoing):
        raise Inconclusive(f"{sender.name} could not send to {target}: {', '.join(errors)}")
    return OneWay(
        count=count,
        sent=sent,
        received=tuple(s["sequence"] for s in sightings),
        sources=frozenset(ip_address(s["source"]) for s in sightings),
        hops=frozenset(s["hops"] for s in sightings if s["hops"] is not None),
        send_errors=errors,
    )
