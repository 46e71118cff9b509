"""DSCP, ECN and flow labels: whether they arrive as they were sent (PKT-013)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from helpers.findings import listed
from helpers.model import Family
from helpers.packet_matrix.carry import Parcel, came_in, carry
from helpers.packet_matrix.ways import SAME_NODE, Way
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE
from helpers.verdicts import Blocked

SOURCE_PORT: Final = 34_000
DSCPS: Final = tuple(range(64))  # RFC 2474 3
ECNS: Final = (1, 2, 3)  # RFC 3168 5; 0 goes with every DSCP
FLOW_LABELS: Final = (1, 0x12345, 0xFFFFF)  # RFC 6437 2


@dataclass(frozen=True, slots=True)
class Marking:
    """What is marked on a packet; the flow label is IPv6's alone."""

    dscp: int = 0
    ecn: int = 0
    flow_label: int = 0

    @property
    def traffic_class(self) -> int:
        return self.dscp << 2 | self.ecn

    def __str__(self) -> str:
        told = [f"DSCP {self.dscp}", f"ECN {self.ecn}"]
        return ", ".join([*told, f"flow label {self.flow_label:#x}"] if self.flow_label else told)


def markings(family: Family) -> list[Marking]:
    """Every DSCP, every ECN codepoint, and for IPv6 some flow labels."""
    made = [Marking(dscp=dscp) for dscp in DSCPS] + [Marking(ecn=ecn) for ecn in ECNS]
    if family is Family.IPV6:  # IPv4 has no flow label
        made += [Marking(dscp=46, flow_label=label) for label in FLOW_LABELS]
    return made


@dataclass(frozen=True, slots=True)
class Arrival:
    """A marked packet and the markings with which it came to the receiver's interface."""

    way: Way
    sent: Marking
    seen: tuple[Marking, ...]


def _packet(way: Way, marking: Marking, nonce: Nonce) -> bytes:
    ends = way.ends
    layer = upper.udp(
        ends.source, ends.target, nonce, sport=SOURCE_PORT + nonce.sequence, dport=ends.port
    )
    return plain(
        ends.source,
        ends.target,
        layer,
        traffic_class=marking.traffic_class,
        flow_label=marking.flow_label,
    )


def observe(ways: Sequence[Way], family: Family, *, settle: float = SETTLE) -> list[Arrival]:
    """Send one packet of each marking along each way.

    Raises:
        Inconclusive: an agent or a capture failed, or a packet did not leave.
    """
    wanted = [(way, marking) for way in ways for marking in markings(family)]
    nonces = Nonce.fresh(len(wanted))
    parcels = [
        Parcel(way, nonce, (_packet(way, marking, nonce),))
        for (way, marking), nonce in zip(wanted, nonces, strict=True)
    ]
    done = carry(parcels, settle=settle)
    for carried in done:
        carried.require_left()
    return [
        Arrival(
            way,
            marking,
            tuple(
                Marking(found.traffic_class >> 2, found.traffic_class & 3, found.flow_label)
                for frame, found in carried.itself(way.receiver)
                if came_in(frame)
            ),
        )
        for (way, marking), carried in zip(wanted, done, strict=True)
    ]


def findings(arrivals: Sequence[Arrival]) -> list[str]:
    """PKT-013: markings arrive as they were sent (ECN is 0 or unmarked by a queue that is full).

    Source: RFC 2474 3, RFC 3168 5, RFC 6437 3. One sentence for each way and kind of change.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for one in arrivals:
        for seen in one.seen:
            for field in ("dscp", "ecn", "flow_label"):
                sent, came = getattr(one.sent, field), getattr(seen, field)
                if sent != came:
                    found.setdefault((one.way.label, field), []).append(f"{sent} as {came}")
    names = {"dscp": "DSCP", "ecn": "ECN", "flow_label": "flow label"}
    return [
        f"{label}: {names[field]} is changed on the way in {len(changes)} packets "
        f"({listed(changes[:4])}): look for rules that set it on the nodes"
        for (label, field), changes in found.items()
    ]


def require_arrived(arrivals: Sequence[Arrival], family: Family) -> None:
    """What did not arrive has no markings.

    Raises:
        Blocked: by CONN-001 or CONN-002, when nothing of a way arrived.
        AssertionError: when only packets of some markings are lost.
    """
    for way in dict.fromkeys(one.way for one in arrivals):
        lost = [one.sent for one in arrivals if one.way is way and not one.seen]
        if len(lost) == len(markings(family)):
            by = "CONN-001" if way.kind == SAME_NODE else "CONN-002"
            raise Blocked(by, f"nothing arrives {way.label}", family)
        assert not lost, f"{way.label}: lost on the way: {listed(lost[:6])}"
