"""Packet Too Big from somebody who is on nobody's way, about a packet that was never sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from helpers import path_mtu
from helpers.egress_mtu import too_big
from helpers.packet_matrix.carry import Carried, Parcel, came_in, carry
from helpers.packet_matrix.ways import SAME_NODE, Way
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE
from helpers.verdicts import Blocked

FALSE_MTU: Final = path_mtu.LEAST_MTU
HOP_LIMIT: Final = 64
PORTS: Final = {"sport": 37_000, "dport": 9}


@dataclass(frozen=True, slots=True)
class Lied:
    """What became of one false error.

    Attributes:
        seen: it came to the interface of the pod that it lies to.
        believed: the MTU that this pod now has for the third one, None when it has none.
        control: a plain packet of the same sender came there just before.
    """

    way: Way
    seen: bool
    believed: int | None
    control: bool


def observe(ways: Sequence[Way], *, settle: float = SETTLE) -> list[Lied]:
    """Along each way, lie to the receiver about its path to the way's third host.

    Raises:
        Inconclusive: an agent or a capture failed, or a packet did not leave.
    """
    parcels = [parcel for way in ways for parcel in (_control(way), _lie(way))]
    done = carry(parcels, settle=settle)
    pairs = list(zip(ways, done[::2], done[1::2], strict=True))
    for way, control, lie in pairs:
        control.require_left()
        lie_left = any(not came_in(frame) for frame, _ in lie.at(way.sender))
        if not lie_left:
            lie.require_left()
    return [
        Lied(
            way,
            seen=_came_to(lie, way),
            believed=path_mtu.known_mtu(way.target, way.ends.third),
            control=way.receiver.name in control.passed,
        )
        for way, control, lie in pairs
    ]


def _came_to(carried: Carried, way: Way) -> bool:
    return any(came_in(frame) for frame, _ in carried.at(way.receiver))


def _control(way: Way) -> Parcel:
    (nonce,) = Nonce.fresh()
    ends = way.ends
    layer = upper.udp(ends.source, ends.target, nonce, **PORTS)
    return Parcel(way, nonce, (plain(ends.source, ends.target, layer, HOP_LIMIT),))


def _lie(way: Way) -> Parcel:
    """An error about a packet that the receiver never sent to the third host."""
    (nonce,) = Nonce.fresh()
    ends = way.ends
    layer = upper.udp(ends.target, ends.third, nonce, octets=1000, **PORTS)
    about = plain(ends.target, ends.third, layer, HOP_LIMIT)
    return Parcel(way, nonce, (too_big(ends.source, about, FALSE_MTU, nonce).data,))


def findings(lied: Sequence[Lied]) -> list[str]:
    """PKT-015: an error that nobody asked for changes nothing and reaches nobody.

    Source: RFC 8201 4 (must be checked), RFC 5927 7; Calico drops what is INVALID.
    """
    found = []
    for one in lied:
        if one.believed is not None and one.believed <= FALSE_MTU:
            found.append(
                f"{one.way.label}: a false Packet Too Big was believed: the path MTU to "
                f"{one.way.ends.third} is now {one.believed}"
            )
        elif one.seen:
            found.append(
                f"{one.way.label}: a Packet Too Big about a packet that was never sent came to "
                "the pod: connection tracking calls it INVALID and Calico drops that; look for "
                "rules that accept ICMP errors before, and whether Felix programs this family"
            )
    return found


def require_control(lied: Sequence[Lied]) -> None:
    """That nothing came proves something only beside a plain packet that did.

    Raises:
        Blocked: by CONN-001 or CONN-002.
    """
    for one in lied:
        if not one.control:
            by = "CONN-001" if one.way.kind == SAME_NODE else "CONN-002"
            raise Blocked(by, f"a plain packet does not arrive {one.way.label}")
