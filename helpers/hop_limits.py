"""How many hops packets lose on their way between pods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from helpers import packets
from helpers.findings import listed
from helpers.model import Family
from helpers.packets import Forged, Nonce
from helpers.parallel import on_each
from helpers.paths import Path, address
from helpers.pod_netns import POD_INTERFACE
from helpers.verdicts import Blocked

SENT_WITH: Final = 61  # no host's default (64, 128, 255): nobody else sets it by chance


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet between two pods, and the hop limits (TTLs) that the receiving pod saw."""

    path: Path
    family: Family
    sent: int
    seen: tuple[int, ...]

    @property
    def hops(self) -> int:
        """Hops that it must have lost: one node, or the sender's and the receiver's."""
        return 1 if self.path.within_node else 2


def hop_findings(arrivals: Sequence[Arrival]) -> list[str]:
    """PKT-011: a packet loses one hop limit for each node that forwards it (RFC 8200 3)."""
    found = []
    for one in arrivals:
        lost = sorted({one.sent - seen for seen in one.seen})
        if lost and lost != [one.hops]:
            name = "TTL" if one.family is Family.IPV4 else "hop limit"
            found.append(
                f"{one.family.kubernetes} from the {one.path.names[0]} to the {one.path.names[1]}: "
                f"sent with {name} {one.sent}, arrived with {listed(sorted(set(one.seen)))}: fell "
                f"by {listed(lost)}, expected {one.hops}: a node rewrites it, or the path has "
                "another number of routers"
            )
    return found


def require_arrived(arrivals: Sequence[Arrival]) -> None:
    """What did not arrive has no hop limit.

    Raises:
        Blocked: by CONN-001 or CONN-002, which say that it must arrive.
    """
    for one in arrivals:
        if not one.seen:
            by = "CONN-001" if one.path.within_node else "CONN-002"
            raise Blocked(by, f"nothing arrives {' -> '.join(one.path.names)}", one.family)


def observe(paths: Sequence[Path], family: Family) -> list[Arrival]:
    """Send one UDP packet along each path and capture it in the receiving pod.

    Raises:
        Inconclusive: a capture or a packet failed.
    """
    made: dict[Path, Forged] = {
        path: packets.udp(
            address(path.source, family),
            address(path.target, family),
            nonce=nonce,
            dport=path.target.port,  # the echo server drops what is no request of its own
            hop_limit=SENT_WITH,
        )
        for path, nonce in zip(paths, Nonce.fresh(len(paths)), strict=True)
    }
    receivers = {path.target: [p for p in paths if p.target is path.target] for path in paths}
    with ExitStack() as stack:
        captures = {
            agent: stack.enter_context(
                packets.capturing(
                    agent, [POD_INTERFACE], [made[p].nonce for p in coming], expect=len(coming)
                )
            )
            for agent, coming in receivers.items()
        }
        senders = {path.source: [p for p in paths if p.source is path.source] for path in paths}
        shots = on_each(
            senders, lambda agent: packets.send(agent, [made[p] for p in senders[agent]])
        )
    for fired in shots.values():
        for shot in fired:
            shot.require_sent()
    arrivals = []
    for path in paths:
        capture = captures[path.target]
        frames = [f for f in capture.find(made[path].nonce) if f.direction != "outgoing"]
        if not frames:
            capture.require_complete()
        limits = tuple(frame.inner.hop_limit for frame in frames)
        arrivals.append(Arrival(path, family, SENT_WITH, limits))
    return arrivals
