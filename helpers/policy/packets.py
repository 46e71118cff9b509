"""Forged packets as cells of a truth table: a packet is open when the target's interface sees it.

What a socket would make of a packet is not asked: policy has to stop it before the pod.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from scapy.layers.inet6 import ICMPv6Unknown, IPv6
from scapy.packet import Raw

from helpers import packets
from helpers.matrix import Cell, Matrix
from helpers.model import Family, IPAddress
from helpers.packets import Capture, Forged, Nonce
from helpers.pod_netns import POD_INTERFACE
from helpers.policy.table import SILENCE, Truth
from helpers.probes import Outcome

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.policy.bench import BenchPod

# Builds what is sent for one cell: one packet that carries the nonce, or the fragments of it.
Builder = Callable[[IPAddress, IPAddress, Nonce], Sequence[Forged]]

NODE_INFORMATION_QUERY: Final = 139  # RFC 4620; like an echo request it begins a flow


def icmpv6(kind: int) -> Builder:
    """An ICMPv6 message of some type, with the nonce as its body."""

    def build(source: IPAddress, target: IPAddress, nonce: Nonce) -> list[Forged]:
        message = ICMPv6Unknown(type=kind, code=0, msgbody=b"\0" * 4) / Raw(bytes(nonce))
        header = IPv6(src=str(source), dst=str(target), hlim=64)
        return [Forged(nonce, source, target, bytes(header / message))]

    return build


def packet_table(
    clients: Mapping[str, tuple[Agent, IPAddress]],
    target: BenchPod,
    family: Family,
    kinds: Mapping[str, Builder],
    allowed: Callable[[Cell], bool],
) -> Truth:
    """A table of forged packets: every client sends every kind to the target.

    Args:
        clients: label -> agent and the address that it sends from.
        kinds: detail of the cell -> what is sent.
    """
    cells = {
        Cell(client, target.label, family, kind): (client, kind)
        for client in clients
        for kind in kinds
    }
    expected = {c: Outcome.REACHED if allowed(c) else Outcome.TIMEOUT for c in cells}
    to = target.address(family)

    def look() -> Matrix:
        nonces = dict(zip(cells, Nonce.fresh(len(cells)), strict=True))
        refused: dict[Cell, str] = {}
        with packets.capturing(
            target.agent, [POD_INTERFACE], nonces.values(), settle=SILENCE
        ) as capture:
            for client, (agent, source) in clients.items():
                made = [
                    (cell, packet)
                    for cell, (sender, kind) in cells.items()
                    if sender == client
                    for packet in kinds[kind](source, to, nonces[cell])
                ]
                shots = packets.send(agent, [packet for _, packet in made])
                for (cell, _), shot in zip(made, shots, strict=True):
                    if not shot.sent:
                        refused[cell] = shot.error or "not sent"
        capture.require_complete()
        return Matrix({c: _outcome(capture, n, c in refused) for c, n in nonces.items()}, refused)

    guests = bool(target.agent.guests)  # any node of the cluster
    return Truth(look, Matrix(expected), guests)


def _outcome(capture: Capture, nonce: Nonce, refused: bool) -> Outcome:
    if capture.find(nonce):
        return Outcome.REACHED
    return Outcome.INCONCLUSIVE if refused else Outcome.TIMEOUT
