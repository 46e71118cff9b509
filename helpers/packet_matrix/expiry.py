"""Hop limits (TTLs) that end on the way: which node says so, and from which address (PKT-012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.packet_matrix.carry import Carried, Parcel, carry_until
from helpers.packet_matrix.ways import FIRST, LAST, SAME_NODE, Way
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE
from helpers.packets.sighting import IcmpError
from helpers.verdicts import Blocked

# Time Exceeded in transit: RFC 792, RFC 4443 3.3.
EXCEEDED = {Family.IPV4: (11, 0), Family.IPV6: (3, 0)}
SOURCE_PORT = 33_000


@dataclass(frozen=True, slots=True)
class Expired:
    """A packet that was sent with a hop limit, and the errors that came of it."""

    way: Way
    hop_limit: int
    errors: tuple[tuple[IcmpError, IPAddress], ...]
    arrived: bool

    @property
    def by(self) -> str | None:
        """Whose place it is to say so; None when it should arrive."""
        hops = [FIRST] if self.way.kind == SAME_NODE else [FIRST, LAST]
        return hops[self.hop_limit - 1] if self.hop_limit <= len(hops) else None

    def lacks_error(self) -> bool:
        return self.by is not None and not self.errors and not self.arrived


def hop_limits(way: Way) -> range:
    """From the first node's to one that suffices."""
    return range(1, 3 if way.kind == SAME_NODE else 4)


def _parcel(way: Way, hop_limit: int) -> Parcel:
    (nonce,) = Nonce.fresh()
    layer = upper.udp(
        way.ends.source,
        way.ends.target,
        nonce,
        sport=SOURCE_PORT + nonce.flow % 1000,
        dport=way.ends.port,
    )
    return Parcel(way, nonce, (plain(way.ends.source, way.ends.target, layer, hop_limit),))


def observe(ways: Sequence[Way], *, settle: float = SETTLE) -> list[Expired]:
    """Trace each way: hop limit 1 and up, until one suffices.

    Raises:
        Inconclusive: an agent or a capture failed, or a packet did not leave.
    """
    wanted = [(way, limit) for way in ways for limit in hop_limits(way)]

    def as_expired(index: int, carried: Carried) -> Expired:
        way, limit = wanted[index]
        return Expired(way, limit, carried.errors, carried.way.receiver.name in carried.passed)

    done = carry_until(
        [partial(_parcel, way, limit) for way, limit in wanted],
        lambda index, carried: as_expired(index, carried).lacks_error(),
        settle=settle,
    )
    for carried, _ in done:
        carried.require_left()
    return [as_expired(index, carried) for index, (carried, _) in enumerate(done)]


def findings(seen: Sequence[Expired], family: Family) -> list[str]:
    """PKT-012: each node on the way says that the hop limit ended there, by a routable address.

    Source: RFC 4443 3.3, RFC 792; traceroute needs nothing else.
    """
    found = []
    name = "TTL" if family is Family.IPV4 else "hop limit"
    for one in (each for each in seen if each.by is not None):
        what = f"{one.way.label}: {name} {one.hop_limit}"
        told = {
            (error.kind, error.code): one.way.roles.get(source, f"the stranger {source}")
            for error, source in one.errors
        }
        if one.arrived:
            found.append(f"{what}: it arrived, expected Time Exceeded from the {one.by}")
        elif told != {EXCEEDED[family]: one.by}:
            answers = listed(f"{kind}/{code} from the {by}" for (kind, code), by in told.items())
            found.append(
                f"{what}: ICMP errors that came back: {answers}; expected Time Exceeded "
                f"{'/'.join(map(str, EXCEEDED[family]))} from a routable address of the {one.by}: "
                "traceroute does not show this node; look for rules that drop ICMP errors"
            )
    return found


def require_arrived(seen: Sequence[Expired], family: Family) -> None:
    """The control: with one hop more the packet arrives.

    Raises:
        Blocked: it does not, by the requirement that says that it must.
    """
    for one in seen:
        if one.by is None and not one.arrived:
            by = "CONN-001" if one.way.kind == SAME_NODE else "CONN-002"
            why = f"nothing arrives {one.way.label} with hop limit {one.hop_limit}"
            raise Blocked(by, why, family)
