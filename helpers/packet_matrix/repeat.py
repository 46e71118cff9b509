"""How to send a failing packet again: scapy, the agent's command, and what both ends saw."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from helpers.evidence import Evidence
from helpers.packet_matrix.flight import Flown
from helpers.packet_matrix.judge import finding, outcome
from helpers.packets.oneliner import scapy_line
from helpers.packets.pcap import pcap

CELLS: Final = 12  # a broken node fails them all: the first ones tell as much


# Runs wherever the agent runs, whatever image that is: one argument for each packet, as hex.
RESEND: Final = (
    "import socket,sys;"
    "[socket.socket(socket.{family},socket.SOCK_RAW,socket.IPPROTO_RAW)"
    '.sendto(bytes.fromhex(p),("{target}",0)) for p in sys.argv[1:]]'
)


def command(flown: Flown) -> str:
    """What to type to send the packets of one cell again from the same place."""
    target = flown.way.ends.target
    code = RESEND.format(family="AF_INET" if target.version == 4 else "AF_INET6", target=target)
    again = shlex.join(["python3", "-c", code, *(packet.hex() for packet in flown.packets)])
    return f"{flown.way.source.typed} {again}".strip()


def told(flown: Flown) -> str:
    """One cell for the report."""
    lines = [
        f"## {flown.variant.label}, {flown.way.kind}: {flown.way.label}",
        f"seen: {outcome(flown)}; {finding(flown) or 'as expected'}",
        f"passed: {' -> '.join(flown.passed) or 'nothing'}",
        "with scapy:",
        *(f"    {scapy_line(packet)}" for packet in flown.packets),
        "again from the same place:",
        f"    {command(flown)}",
    ]
    return "\n".join(lines)


def attach(evidence: Evidence, failing: Sequence[Flown]) -> None:
    """``repeat.txt``, and a pcap of each end for each failing cell."""
    shown = failing[:CELLS]
    if not shown:
        return
    evidence.attach("repeat.txt", "\n\n".join(map(told, shown)) + "\n")
    for number, flown in enumerate(shown, 1):
        for end, place in (("sender", flown.way.sender), ("receiver", flown.way.receiver)):
            frames = [(frame.at, frame.data) for frame in flown.frames(place)]
            evidence.attach(f"{number}-{flown.variant.label}-{end}.pcap", pcap(frames))


def rows(flown: Iterable[Flown]) -> list[dict[str, object]]:
    """The matrix as data, one row for each cell: what the table in the docs is made from."""
    return [
        {
            "family": one.variant.family.value,
            "shape": one.variant.shape,
            "carrier": one.variant.carrier.value,
            "kind": one.way.kind,
            "way": one.way.label,
            "outcome": outcome(one),
            "lost_after": one.passed[-1] if one.passed and not one.arrived else None,
            "attempts": one.attempts,
        }
        for one in flown
    ]
