"""Links with a smaller MTU on the way: who says so, and which packets get over them.

The smaller link is a route with an MTU on a node, to an address that is the test's own, in a
routing table of its own: nobody else's packets see it. The node then does what a router in front
of such a link does (RFC 4443 3.2, RFC 1191 4, RFC 1812 4.3.2.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from helpers import probes
from helpers.model import Family, IPAddress
from helpers.packet_matrix.carry import Carried, Parcel, carry_until
from helpers.packet_matrix.ways import CLUSTER_IP, FIRST, NODE_PORT, Way
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.raw import SETTLE
from helpers.packets.sighting import IcmpError
from helpers.probes import Outcome
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent

TABLE: Final = 7361  # a routing table that nobody else has
SOURCE_PORT: Final = 36_000
# IP header and UDP header: what a payload leaves of a packet.
HEADERS: Final = {Family.IPV4: 20 + 8, Family.IPV6: 40 + 8}
# Packet Too Big; destination unreachable, fragmentation needed.
TOO_BIG: Final = {Family.IPV4: (3, 4), Family.IPV6: (2, 0)}
EMSGSIZE: Final = "EMSGSIZE"  # how a kernel says that it knows of a smaller link on the way
LEAST_MTU: Final = 1280  # of every IPv6 link (RFC 8200 5); IPv4 has 68, and is tested with the same


@dataclass(frozen=True, slots=True)
class Narrow:
    """The smaller link: where it begins and what it carries. ``node`` is named in messages."""

    node: str
    mtu: int


@contextmanager
def narrowed(node: Agent, target: IPAddress, mtu: int) -> Iterator[Narrow]:
    """A link of ``mtu`` from a node towards one address, while the block runs.

    Raises:
        Inconclusive: the node refuses the route.
    """
    flag = f"-{target.version}"
    way = _ip(node, "-j", flag, "route", "get", str(target))
    (route,) = json.loads(way)
    # onlink: the far end of a VXLAN device is in no prefix of it, as Felix's own routes say too.
    via = ["via", route["gateway"], "onlink"] if "gateway" in route else []
    whole = f"{target}/{target.max_prefixlen}"
    table = ["table", str(TABLE)]
    rule = ["to", whole, "lookup", str(TABLE), "priority", "99"]
    link = ["dev", route["dev"], "mtu", str(mtu)]
    _ip(node, flag, "route", "replace", whole, *via, *link, *table)
    _ip(node, flag, "rule", "add", *rule)
    try:
        yield Narrow(str(node.node), mtu)
    finally:
        _ip(node, flag, "rule", "del", *rule)
        _ip(node, flag, "route", "del", whole, *table)


def _ip(agent: Agent, *arguments: str) -> str:
    done = agent.call_one("run", argv=["ip", *arguments])
    if done["rc"] != 0:
        raise Inconclusive(f"{agent.name}: ip {' '.join(arguments)}: {done['stderr'].strip()}")
    return str(done["stdout"])


def known_mtu(agent: Agent, target: IPAddress) -> int | None:
    """The path MTU that the agent's kernel remembers for a target, None when it remembers none."""
    (route,) = json.loads(_ip(agent, "-j", f"-{target.version}", "route", "get", str(target)))
    told = [metrics["mtu"] for metrics in route.get("metrics", []) if "mtu" in metrics]
    return int(told[0]) if told else None


@dataclass(frozen=True, slots=True)
class Sized:
    """A packet of a size that must not be fragmented, and what came of it.

    ``refused``: the sender's own kernel knows already that it is too big for the way.
    """

    way: Way
    size: int
    arrived: bool
    errors: tuple[tuple[IcmpError, IPAddress], ...]
    lost: str
    refused: bool = False

    def sender_of(self, source: IPAddress) -> str:
        """Who sent an error; a Service's address stands for itself."""
        if source == self.way.ends.target:
            return str(source)
        return self.way.roles.get(source, str(source))


def sizes(mtu: int, link: int) -> list[int]:
    """Sizes around a link's MTU, up to what the sender's own link carries."""
    near = {LEAST_MTU, mtu - 1, mtu, mtu + 1, (mtu + link) // 2, link - 1, link}
    return sorted(size for size in near if LEAST_MTU <= size <= link)


def observe(
    wanted: Sequence[tuple[Way, int]], mtus: dict[Way, int], *, settle: float = SETTLE
) -> list[Sized]:
    """Send a packet of each size along its way.

    Args:
        mtus: of the way, by way: larger packets are expected to be answered with an error.

    Raises:
        Inconclusive: an agent or a capture failed, or a packet did not leave.
    """

    def build(way: Way, size: int) -> Parcel:
        (nonce,) = Nonce.fresh()
        family = Family.of(way.ends.target)
        layer = upper.udp(
            way.ends.source,
            way.ends.target,
            nonce,
            sport=SOURCE_PORT + nonce.flow % 4000,
            dport=way.ends.port,
            octets=size - HEADERS[family],
        )
        return Parcel(way, nonce, (plain(way.ends.source, way.ends.target, layer),))

    def lacks_error(index: int, carried: Carried) -> bool:
        way, size = wanted[index]
        arrived = way.receiver.name in carried.passed
        return size > mtus[way] and not (carried.errors or arrived or carried.refused)

    done = carry_until([partial(build, *each) for each in wanted], lacks_error, settle=settle)
    seen = [
        Sized(
            way,
            size,
            way.receiver.name in carried.passed,
            carried.errors,
            carried.where_lost,
            size > mtus[way] and EMSGSIZE in (carried.refused or ""),
        )
        for (way, size), (carried, _) in zip(wanted, done, strict=True)
    ]
    for one, (carried, _) in zip(seen, done, strict=True):
        if not one.refused:
            carried.require_left()
    for way in mtus:
        larger = [one for one in seen if one.way is way and one.size > mtus[way]]
        if larger and all(one.refused for one in larger):
            raise Inconclusive(
                f"{way.label}: the sender knows of a smaller link already and sends nothing that "
                "is too big for it; what it knows is forgotten after ten minutes"
            )
    return seen


def findings(seen: Sequence[Sized], mtus: dict[Way, int], family: Family) -> list[str]:
    """PKT-015, EGR-008: what fits passes; what does not is answered with the MTU of the link.

    Source: RFC 4443 3.2, RFC 8201 4, RFC 8200 5; RFC 1191 4.
    """
    found = []
    name = "Packet Too Big" if family is Family.IPV6 else "Fragmentation Needed"
    for one in (each for each in seen if not each.refused):
        mtu = mtus[one.way]
        what = f"a packet of {one.size} octets {one.way.label}"
        told = ", ".join(
            f"{error} MTU {error.value} from {one.sender_of(source)}"
            for error, source in one.errors
        )
        if one.size <= mtu:
            if not one.arrived or one.errors:
                found.append(
                    f"{what}: the smallest link carries {mtu} and it should pass; "
                    f"{told or one.lost}"
                )
            continue
        # Who translates the flow translates the errors about it: one through a Service comes from
        # the Service's address, whoever sent it (Linux nf_nat_icmp_reply_translation).
        by = FIRST if one.way.kind not in (CLUSTER_IP, NODE_PORT) else str(one.way.ends.target)
        expected = [(*TOO_BIG[family], mtu, by)]
        got = [(e.kind, e.code, e.value, one.sender_of(s)) for e, s in one.errors]
        if one.arrived:
            found.append(f"{what}: it arrived over a link that carries {mtu}")
        elif got != expected:
            found.append(
                f"{what}: the next link carries {mtu} octets; the node must answer {name} with "
                f"MTU {mtu}, but came back: {told or 'nothing'} ({one.lost}): path MTU discovery "
                f"is blind here; look for rules on the node that drop ICMP errors"
            )
    return found


def bulk_findings(way: Way, mtu: int, octets: int, patience: float) -> list[str]:
    """PKT-015, EGR-008: TCP gets over the smaller link, and the sender knows its MTU then.

    Args:
        octets: to be moved, in at most ``patience`` seconds.

    Source: RFC 8201 4, RFC 1191 6.
    """
    moved = probes.tcp_bulk(way.source, way.ends.target, way.ends.port, octets, timeout=patience)
    if moved.outcome is Outcome.INCONCLUSIVE:
        raise Inconclusive(f"{way.label}: {moved.error}")
    if moved.outcome is not Outcome.REACHED:
        return [
            f"TCP {way.label} over a link that carries {mtu} moved {moved.moved} of {octets} "
            f"octets in {patience:g} s ({moved.outcome}: {moved.error}): a path MTU black hole"
        ]
    known = known_mtu(way.source, way.ends.target)
    if known != mtu:
        return [
            f"TCP {way.label} over a link that carries {mtu}: the pod's route cache says {known}: "
            "Packet Too Big does not get to the pod, or with another MTU"
        ]
    return []
