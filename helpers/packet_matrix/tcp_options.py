"""TCP options of a SYN: whether they pass as they were sent (PKT-020)."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scapy.layers.inet import TCP

from helpers import probes
from helpers.model import Family, Protocol
from helpers.packet_matrix.carry import Parcel, came_in, carry
from helpers.packet_matrix.ways import Way
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE
from helpers.packets.sighting import ip_part
from helpers.probes import Probe
from helpers.verdicts import Inconclusive

SOURCE_PORT: Final = 35_000
OWN_SOURCE_PORT: Final = 25_000
SYN, SYN_ACK = 0x02, 0x12
NUMBER: Final = 6
EXPERIMENT: Final = 253  # RFC 4727 6: nobody knows it; it carries the nonce
FLAGS: Final = {"SYN": "S", "SYN with ECN": "SEC"}  # RFC 3168 6.1.1
# IP and TCP header: what a SYN's MSS leaves of the MTU (RFC 9293 3.7.1).
HEADERS: Final = {Family.IPV4: 40, Family.IPV6: 60}


@dataclass(frozen=True, slots=True)
class Syn:
    """A SYN as it was sent and as it came to the receiver's interface."""

    way: Way
    kind: str
    sent: bytes
    seen: tuple[bytes, ...]


def tcp_part(frame: bytes) -> bytes:
    """The TCP header of a packet without extension headers."""
    data = ip_part(frame)
    start = (data[0] & 15) * 4 if data[0] >> 4 == 4 else 40
    return data[start : start + (data[start + 12] >> 4) * 4]


def told(header: bytes) -> str:
    """Flags and options in words."""
    parsed = TCP(header)
    return f"{parsed.flags} {parsed.options}"


def mss(header: bytes) -> int | None:
    """The maximum segment size that a SYN announces."""
    found = [value for name, value in TCP(header).options if name == "MSS"]
    return int(found[0]) if found else None


def same(sent: bytes, seen: bytes) -> bool:
    """Flags and options are the same; ports and checksum may be translated."""
    return sent[12:14] == seen[12:14] and sent[20:] == seen[20:]


def _parcel(way: Way, nonce: Nonce, flags: str, mtu: int) -> Parcel:
    family = Family.of(way.ends.target)
    options: list[tuple[str | int, object]] = [
        ("MSS", mtu - HEADERS[family]),
        ("SAckOK", b""),
        ("WScale", 7),
        ("NOP", None),
        ("Timestamp", (1, 0)),
        (EXPERIMENT, bytes(nonce)),
    ]
    layer = upper.tcp_syn(
        way.ends.source,
        way.ends.target,
        sport=SOURCE_PORT + nonce.flow % 1000 * 2 + nonce.sequence,
        dport=way.ends.port,
        options=options,
        flags=flags,
    )
    return Parcel(way, nonce, (plain(way.ends.source, way.ends.target, layer),))


def observe(ways: Sequence[Way], mtus: dict[Way, int], *, settle: float = SETTLE) -> list[Syn]:
    """Send SYNs with every usual option and an unknown one along each way.

    Args:
        mtus: of the sender's interface, by way.

    Raises:
        Inconclusive: an agent or a capture failed, or a packet did not leave.
    """
    wanted = [(way, kind) for way in ways for kind in FLAGS]
    parcels = []
    for way in ways:
        for flags, nonce in zip(FLAGS.values(), Nonce.fresh(len(FLAGS)), strict=True):
            parcels.append(_parcel(way, nonce, flags, mtus[way]))
    done = carry(parcels, settle=settle)
    for carried in done:
        carried.require_left()
    return [
        Syn(
            way,
            kind,
            tcp_part(carried.parcel.packets[0]),
            tuple(
                tcp_part(frame.data) for frame, _ in carried.itself(way.receiver) if came_in(frame)
            ),
        )
        for (way, kind), carried in zip(wanted, done, strict=True)
    ]


def findings(syns: Sequence[Syn]) -> list[str]:
    """PKT-020: flags and options of a SYN arrive as they were sent; nobody clamps its MSS.

    Source: RFC 9293 3.2, 3.7.1; RFC 7323, RFC 2018, RFC 3168 6.1.
    """
    found = []
    for one in syns:
        if not one.seen:
            found.append(
                f"{one.kind} with unknown option {EXPERIMENT}, {one.way.label}: it did not arrive"
            )
        for seen in one.seen:
            if mss(seen) != mss(one.sent):
                found.append(
                    f"{one.kind}, {one.way.label}: MSS {mss(one.sent)} arrived as {mss(seen)}: "
                    "a node clamps it; look for rules that set tcp option maxseg"
                )
            elif not same(one.sent, seen):
                found.append(
                    f"{one.kind}, {one.way.label}: sent {told(one.sent)}, arrived {told(seen)}: "
                    "something on the way changes TCP options"
                )
    return found


# -- a pod's own kernel ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnSyn:
    """The SYN of a real connection, at the sender's and at the receiver's interface."""

    label: str
    mtu: int
    left: bytes
    came: bytes


def observe_own(way: Way, mtu: int) -> OwnSyn:
    """Let the sender's kernel open a connection and capture its SYN at both ends.

    Raises:
        Inconclusive: an agent failed, or the SYN was not seen at an end.
    """
    port = OWN_SOURCE_PORT + secrets.randbelow(4_000)
    match = struct.pack("!H", port).hex()
    ends = {way.source: way.sender.interface, way.target: way.receiver.interface}
    handles = {
        agent: agent.call_one("capture_start", interfaces=[name], match=[match], longest=200)
        for agent, name in ends.items()
    }
    probe = Probe(Protocol.TCP, way.ends.target, way.ends.port, source_port=port)
    (seen,) = probes.run(way.source, [probe])
    headers = []
    for agent, started in handles.items():
        *frames, _ = agent.call("capture_stop", handle=started["handle"], settle=0.3)
        found = [_syn(bytes.fromhex(frame["frame"]), port) for frame in frames]
        headers.append(next((each for each in found if each), b""))
    if not all(headers):
        raise Inconclusive(f"no SYN of a connection {way.label} was seen at both ends ({seen})")
    return OwnSyn(way.label, mtu, headers[0], headers[1])


def _syn(frame: bytes, port: int) -> bytes:
    """TCP header of a SYN from a port; empty for other frames."""
    data = ip_part(frame)
    if not data or (data[9] if data[0] >> 4 == 4 else data[6]) != NUMBER:
        return b""
    header = tcp_part(frame)
    is_syn = header[13] & SYN_ACK == SYN
    return header if is_syn and header[:2] == struct.pack("!H", port) else b""


def own_findings(syns: Sequence[OwnSyn], family: Family) -> list[str]:
    """PKT-020: a pod's kernel announces an MSS that fits its MTU, and it arrives as announced.

    Source: RFC 9293 3.7.1.
    """
    found = []
    for one in syns:
        announced, most = mss(one.left), one.mtu - HEADERS[family]
        if announced is None or announced > most:
            found.append(
                f"{one.label}: a SYN of the pod's own kernel announces MSS {announced}, its "
                f"interface has MTU {one.mtu}: at most {most} fits"
            )
        if not same(one.left, one.came):
            found.append(
                f"{one.label}: a SYN of the pod's own kernel left with {told(one.left)} and "
                f"arrived with {told(one.came)}: something on the way changes TCP options"
            )
    return found
