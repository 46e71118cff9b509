"""Packets whose addresses are of a link or a site: they stay there (PKT-019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from helpers.findings import listed
from helpers.packet_matrix.ways import Place, Way
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE, capturing_all
from helpers.packets.sighting import IcmpError, sighting
from helpers.parallel import on_each
from helpers.pod_netns import POD_INTERFACE
from helpers.verdicts import Blocked, Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent

BEYOND_SCOPE: Final = (1, 2)  # RFC 4443 3.1: beyond scope of source address
HOP_LIMIT: Final = 64
PORTS: Final = {"sport": 38_000, "dport": 9}
# Link-local, site-local and global multicast groups that nobody here joined but the first
# (RFC 4291 2.7, RFC 2375).
GROUPS: Final = (IPv6Address("ff02::1"), IPv6Address("ff05::1:3"), IPv6Address("ff0e::101"))


@dataclass(frozen=True, slots=True)
class Scoped:
    """One packet of limited scope.

    Attributes:
        words: what it is.
        first: it came to the node's end of the sender's veth.
        beyond: where it was seen that it must not have come to.
        errors: ICMP errors that came back.
        told: an error "beyond scope" must come back.
    """

    words: str
    way: Way
    first: bool
    beyond: tuple[str, ...]
    errors: tuple[IcmpError, ...]
    told: bool
    control: bool = False


@dataclass(frozen=True, slots=True)
class _Packet:
    words: str
    way: Way
    nonce: Nonce
    data: bytes
    told: bool = False
    control: bool = False


def _packets(way: Way, local: IPv6Address, other: IPv6Address) -> list[_Packet]:
    """The control, then what must stay on the link.

    Args:
        local: the sender's link-local address.
        other: the receiver's.
    """
    plans = [("a plain packet", way.ends.source, way.ends.target, False)]
    plans.append((f"a packet from link-local {local}", local, way.ends.target, True))
    plans.append((f"a packet to the link-local address {other}", way.ends.source, other, False))
    plans += [(f"a packet to {group}", way.ends.source, group, False) for group in GROUPS]
    made: list[_Packet] = []
    for (words, source, target, told), nonce in zip(plans, Nonce.fresh(len(plans)), strict=True):
        layer = upper.udp(source, target, nonce, **PORTS)
        made.append(_Packet(words, way, nonce, plain(source, target, layer), told, not made))
    return made


def observe(
    ways: Sequence[Way],
    locals_: Mapping[Agent, IPv6Address],
    everywhere: Sequence[Place],
    *,
    settle: float = SETTLE,
) -> list[Scoped]:
    """Send packets of limited scope from the sender of each way.

    Args:
        locals_: link-local address of each pod's interface.
        everywhere: interfaces of all pods and of the nodes' network, where none may come to.

    Raises:
        Inconclusive: an agent or a capture failed, or a packet did not come to the first node.
    """
    wanted = [
        packet for way in ways for packet in _packets(way, locals_[way.source], locals_[way.target])
    ]
    places = [*everywhere, *(place for way in ways for place in way.places)]
    by_agent: dict[Agent, set[str]] = {}
    for place in places:
        by_agent.setdefault(place.agent, set()).add(place.interface)
    senders = {way.source: [p for p in wanted if p.way.source is way.source] for way in ways}
    with capturing_all(by_agent, settle=settle) as capture:
        sent = on_each(senders, lambda agent: _send(agent, senders[agent]))
    capture.require_complete()
    for refused in sent.values():
        if refused:
            raise Inconclusive(f"a packet did not leave: {listed(refused)}")

    def saw(place: Place, packet: _Packet) -> bool:
        return bool(capture.of(place.agent, place.interface, packet.nonce))

    seen = []
    for packet in wanted:
        way = packet.way
        link = {(place.agent, place.interface) for place in way.places[:2]}
        back = capture.of(way.source, way.sender.interface, packet.nonce)
        errors = [found.error for f in back if (found := sighting(f.data)) and found.error]
        beyond = {
            place.name
            for place in places
            if (place.agent, place.interface) not in link and saw(place, packet)
        }
        seen.append(
            Scoped(
                packet.words,
                way,
                saw(way.places[1], packet),
                tuple(sorted(beyond)),
                tuple(dict.fromkeys(errors)),
                packet.told,
                packet.control,
            )
        )
    return seen


def _send(agent: Agent, wanted: Sequence[_Packet]) -> list[str]:
    """What the kernel refused; it sends to link-local addresses on the pod's interface."""
    data = [packet.data.hex() for packet in wanted]
    results = agent.call("send_packets", packets=data, interface=POD_INTERFACE, interval=0.001)
    return [str(result["error"]) for result in results if not result["sent"]]


def findings(seen: Sequence[Scoped]) -> list[str]:
    """PKT-019: nothing of limited scope is forwarded; a link-local source is told so.

    Source: RFC 4007 9, RFC 4291 2.5.6, 2.7, RFC 4443 3.1.
    """
    found = []
    for one in seen:
        if one.control:
            continue
        what = f"{one.words}, sent by the {one.way.label.split(' -> ')[0]}"
        if one.beyond:
            found.append(
                f"{what}, was seen on {listed(one.beyond)}: it must not leave its link; look for "
                "multicast relays and routes of link-local or multicast prefixes on the node"
            )
        told = [(error.kind, error.code) for error in one.errors]
        if one.told and BEYOND_SCOPE not in told:
            found.append(
                f"{what} to {one.way.ends.target}: came back {listed(one.errors)}, expected "
                "Destination Unreachable, beyond scope of source address (1/2) from the node"
            )
    return found


def require_control(seen: Sequence[Scoped]) -> None:
    """What was not seen elsewhere proves something only when plain packets are.

    Raises:
        Blocked: by CONN-002, when a plain packet was not seen beyond the first node.
        Inconclusive: a packet did not come to the first node.
    """
    for one in seen:
        if one.control and not one.beyond:
            raise Blocked("CONN-002", f"a plain packet is not forwarded: {one.way.label}")
        # What is for another host on the link has nobody to resolve its address.
        if not one.first and "to the link-local address" not in one.words:
            raise Inconclusive(f"{one.words} did not come to {one.way.places[1].name}")
