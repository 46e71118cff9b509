"""One-way UDP: numbered datagrams, and what the receiver saw of them.

A reply proves both directions at once and its absence neither. Here the receiver's own sightings
decide, so that a loss has a direction.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from helpers.agents.client import Agent, Result
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


def _doubt(
    sightings: Sequence[Result], account: Result, nonce: str, sent: frozenset[int]
) -> str | None:
    """Why a receiver's report cannot be trusted: a loss in it is none of the network's."""
    if "arrived" not in account:
        return "its report has no account"
    if account["dropped"]:
        return f"its kernel threw {account['dropped']} datagrams away, the socket's buffer was full"
    if any(s["nonce"] != nonce for s in sightings):
        return "it reports datagrams of somebody else"
    unsent = sorted({s["sequence"] for s in sightings} - sent)
    if unsent:
        return f"it reports datagrams that were never sent: {', '.join(map(str, unsent[:5]))}"
    told = [s["arrival"] for s in sightings]
    if told != list(range(1, account["arrived"] + 1)):
        return f"{account['arrived']} datagrams arrived, {len(set(told))} of them are in its report"
    return None


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
        *sightings, account = receiver.call(
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
    doubt = _doubt(sightings, account, nonce, frozenset(sent))
    if doubt:
        raise Inconclusive(f"{receiver.name} does not tell all that it saw: {doubt}")
    return OneWay(
        count=count,
        sent=sent,
        received=tuple(s["sequence"] for s in sightings),
        sources=frozenset(ip_address(s["source"]) for s in sightings),
        hops=frozenset(s["hops"] for s in sightings if s["hops"] is not None),
        send_errors=errors,
    )
