"""The variants: shapes of packets (extension header x position x size), each in two carriers.

A shape wraps an upper layer; a carrier makes one that its receiver answers, so that the receiver's
own stack says whether it took the packet. ``suites/packets/expected.yaml`` has an entry for every
shape and for no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Final

from helpers.model import Family, IPAddress
from helpers.packets import extension as ext
from helpers.packets import options4, upper
from helpers.packets.extension import Header, chained
from helpers.packets.fragments import atomic, fragment_header, fragmented, pieces
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.upper import Upper


@dataclass(frozen=True, slots=True)
class Ends:
    """Between whom: ``port`` is the target's UDP echo server, ``third`` nobody's business."""

    source: IPAddress
    target: IPAddress
    port: int
    third: IPAddress


class Carrier(StrEnum):
    """What is inside: the receiver answers either."""

    UDP = "udp"
    ECHO = "echo"


# An upper layer for a destination (its checksum is for that one), ``octets`` of payload long.
MakeUpper = Callable[[IPAddress, int | None], Upper]
Shape = Callable[[Ends, MakeUpper], list[bytes]]

FRAGMENTED: Final = 2400  # octets of payload: more than a packet, in any encapsulation
# Shapes of one carrier: the other has no such field, or no such rule.
UDP_ONLY: Final = frozenset({"checksum/wrong", "checksum/none"})
FIRST_SOURCE_PORT: Final = 20_000
SOURCE_PORTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Variant:
    """A shape in a carrier."""

    shape: str
    carrier: Carrier
    family: Family

    @property
    def label(self) -> str:
        return f"{self.shape} ({self.carrier})"

    def build(self, ends: Ends, nonce: Nonce) -> list[bytes]:
        """The packets, in the order in which they are sent."""
        shape = SHAPES[self.family][self.shape]

        def made(target: IPAddress, octets: int | None = None) -> Upper:
            if self.carrier is Carrier.ECHO:
                return upper.echo_request(ends.source, target, nonce, octets)
            # A source port of its own: one variant's connection tracking is not another's.
            sport = FIRST_SOURCE_PORT + (nonce.flow * 61 + nonce.sequence) % SOURCE_PORTS
            return upper.udp(
                ends.source, target, nonce, sport=sport, dport=ends.port, octets=octets
            )

        return shape(ends, made)


# -- shapes of IPv6 -------------------------------------------------------------------------------


def _with(*headers: Header) -> Shape:
    """A chain of headers in front of the upper layer (RFC 8200 4)."""

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        return [chained(ends.source, ends.target, headers, made(ends.target, None))]

    return shape


def _routed(segments_left: int, *, segments: bool = False, for_last: bool = False) -> Shape:
    """A routing header that leads to the third host (RFC 5095, RFC 8754).

    Args:
        for_last: the checksum is right for the last destination, as it should be. Nodes on the
            way do not know that and take it for wrong.
    """

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        if segments:
            header = ext.segment_routing([ends.third, ends.target], segments_left)
        else:
            header = ext.routing_type_0([ends.third], segments_left)
        summed_for = ends.third if for_last else ends.target
        return [chained(ends.source, ends.target, [header], made(summed_for, None))]

    return shape


def _instead(number: int, *, esp: bool = False) -> Shape:
    """Another protocol number in front of the upper layer's bytes (RFC 8200 4.7)."""

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        data = made(ends.target, None)[1]
        content = ext.encapsulated(data) if esp else data
        return [chained(ends.source, ends.target, [], (number, content))]

    return shape


def _chain_cut_early(headers: Sequence[Header], size: int) -> Shape:
    """The first fragment ends inside of the header chain (RFC 7112)."""

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        layer = made(ends.target, None)
        length = len(layer[1]) + sum(len(header.data) for header in headers)
        cut = pieces(length, size)
        return fragmented(ends.source, ends.target, layer, cut, after=headers)

    return shape


def _atomic_beside_others() -> Shape:
    """An atomic fragment with the identification of a datagram that is not complete (RFC 6946)."""

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        layer = made(ends.target, None)
        other = (layer[0], bytes(64))  # no nonce: nobody looks for it
        number = secrets.randbits(32)
        started = fragmented(ends.source, ends.target, other, [(0, 32)], identification=number)
        return [*started, atomic(ends.source, ends.target, layer, identification=number)]

    return shape


# -- shapes of both families ----------------------------------------------------------------------


def _plain(ends: Ends, made: MakeUpper) -> list[bytes]:
    """No extension header, no options: what every other variant is compared with."""
    return [plain(ends.source, ends.target, made(ends.target, None))]


def _cut(size: int, order: Callable[[list[tuple[int, int]]], list[tuple[int, int]]]) -> Shape:
    """Fragments of a large datagram, in an order (RFC 8200 4.5, RFC 791 3.2)."""

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        layer = made(ends.target, FRAGMENTED)
        cut = order(pieces(len(layer[1]), size))
        return fragmented(ends.source, ends.target, layer, cut)

    return shape


def _in_order(cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return cut


def _reversed(cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return cut[::-1]


def _second_longer(cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The second fragment begins 8 octets too early (RFC 5722 3)."""
    (start, stop), *rest = cut[1:]
    return [cut[0], (start - 8, stop), *rest]


def _inside_another(cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A fragment that lies inside of another one, before the last (RFC 5722 3)."""
    return [*cut[:-1], (cut[0][0] + 64, cut[0][0] + 256), cut[-1]]


# -- the table ------------------------------------------------------------------------------------

_PAD: Final = ext.padding()
_LEGAL: Final[Mapping[str, Header]] = MappingProxyType(
    {
        "hbh": ext.hop_by_hop(_PAD),
        "dst": ext.destination_options(_PAD),
        "routing": ext.routing_unknown(0),
    }
)
SIZES: Final = (64, 256, 1024)  # octets of the header; the one with one small option has 8
ACTIONS: Final = {
    "skip": ext.SKIP,
    "skip-mutable": ext.SKIP_MUTABLE,
    "discard": ext.DISCARD,
    "discard-and-tell": ext.DISCARD_AND_TELL,
    "discard-and-tell-unicast": ext.DISCARD_AND_TELL_UNICAST,
}


def _options_of(name: str, header: Callable[..., Header]) -> dict[str, Shape]:
    """Shapes of one header that holds options: padding, actions, sizes, numbers."""
    made = {f"{name}/padn": _with(header(_PAD))}
    made |= {f"{name}/{a}": _with(header(ext.option(kind))) for a, kind in ACTIONS.items()}
    made |= {f"{name}/size-{size}": _with(header(*ext.filling(size))) for size in SIZES}
    made[f"{name}/8-options"] = _with(header(*[ext.option(ext.SKIP, 4)] * 8))
    made[f"{name}/9-options"] = _with(header(*[ext.option(ext.SKIP, 4)] * 9))
    made[f"{name}/padn-14"] = _with(header(ext.padding(14)))
    return made


def _shapes6() -> dict[str, Shape]:
    made: dict[str, Shape] = {"plain": _plain}
    made |= _options_of("hbh", ext.hop_by_hop)
    made["hbh/router-alert"] = _with(ext.hop_by_hop(ext.router_alert()))
    made["hbh/jumbo-that-is-none"] = _with(ext.hop_by_hop(ext.jumbo(64)))
    made |= _options_of("dst", ext.destination_options)
    for first, one in _LEGAL.items():
        made |= {f"{first}+{second}": _with(one, two) for second, two in _LEGAL.items()}
    made["all-in-order"] = _with(
        ext.hop_by_hop(_PAD),
        ext.destination_options(_PAD),
        ext.routing_unknown(0),
        fragment_header(0, more=False, identification=0x0AFE),
        ext.destination_options(_PAD),
    )
    for count in (4, 8, 16, 40):
        made[f"chain/{count}-dst"] = _with(*[ext.destination_options(_PAD)] * count)
    made["routing/type-0-done"] = _routed(0)
    made["routing/type-0-left"] = _routed(1)
    made["routing/type-0-left-summed"] = _routed(1, for_last=True)
    made["routing/unknown-done"] = _with(ext.routing_unknown(0))
    made["routing/unknown-left"] = _with(ext.routing_unknown(1))
    made["routing/segments-done"] = _routed(0, segments=True)
    made["routing/segments-left"] = _routed(1, segments=True)
    made["routing/segments-left-summed"] = _routed(1, segments=True, for_last=True)
    made["other/253"] = _instead(ext.EXPERIMENT)
    made["other/esp"] = _instead(ext.ESP, esp=True)
    made["other/ah"] = _with(ext.authentication())
    made["other/mobility"] = _instead(ext.MOBILITY)
    made["other/host-identity"] = _instead(ext.HOST_IDENTITY)
    made["other/no-next-header"] = _instead(ext.NO_NEXT_HEADER)
    made["fragment/atomic"] = lambda ends, upper_: [
        atomic(ends.source, ends.target, upper_(ends.target, None))
    ]
    made["fragment/atomic-beside-others"] = _atomic_beside_others()
    made["fragment/overlap-by-8"] = _cut(1208, _second_longer)
    made["fragment/overlap-inside"] = _cut(1208, _inside_another)
    three = [ext.destination_options(*ext.filling(64))] * 3
    made["fragment/chain-cut-early"] = _chain_cut_early(three, 128)
    made["fragment/upper-in-second"] = _chain_cut_early(three, 192)
    return made


def _shapes4() -> dict[str, Shape]:
    """IPv4 has options where IPv6 has headers (RFC 791 3.1); source routes are RFC 7126's."""

    def having(options: Callable[[Ends], bytes]) -> Shape:
        def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
            layer = made(ends.target, None)
            return [options4.with_options(ends.source, ends.target, options(ends), layer)]

        return shape

    fixed = {
        "option/no-operation": options4.NO_OPERATION * 4,
        "option/record-route": options4.record_route(),
        "option/timestamp": options4.timestamp(),
        "option/router-alert": options4.ROUTER_ALERT,
        "option/experiment": options4.EXPERIMENT,
    }
    made: dict[str, Shape] = {"plain": _plain}
    made |= {name: having(partial(_constant, value)) for name, value in fixed.items()}
    for name, kind in (
        ("option/loose-route", options4.LOOSE_ROUTE),
        ("option/strict-route", options4.STRICT_ROUTE),
    ):
        made[name] = having(
            lambda ends, kind=kind: options4.source_route(kind, [ends.third])  # type: ignore[misc]
        )
    return made


def _constant(value: bytes, _ends: Ends) -> bytes:
    return value


def _with_checksum(value: Callable[[int], int]) -> Shape:
    """A UDP datagram with another checksum (RFC 768, RFC 8200 8.1)."""

    def shape(ends: Ends, made: MakeUpper) -> list[bytes]:
        number, data = made(ends.target, None)
        right = int.from_bytes(data[6:8], "big")
        changed = data[:6] + value(right).to_bytes(2, "big") + data[8:]

        def same(_target: IPAddress, _octets: int | None) -> Upper:
            return number, changed

        return _plain(ends, same)

    return shape


def _wrong(right: int) -> int:
    return right ^ 0x5555 or 0x5555  # zero would mean that there is none


def _none(_right: int) -> int:
    return 0


def _shapes_of_both() -> dict[str, Shape]:
    return {
        "checksum/wrong": _with_checksum(_wrong),
        "checksum/none": _with_checksum(_none),
        "fragment/in-order": _cut(1208, _in_order),
        "fragment/reversed": _cut(1208, _reversed),
        "fragment/many": _cut(256, _in_order),
        "fragment/many-reversed": _cut(256, _reversed),
    }


SHAPES: Final[Mapping[Family, Mapping[str, Shape]]] = MappingProxyType(
    {
        Family.IPV4: MappingProxyType(_shapes4() | _shapes_of_both()),
        Family.IPV6: MappingProxyType(_shapes6() | _shapes_of_both()),
    }
)


def variants(
    family: Family,
    shapes: Sequence[str] | None = None,
    carriers: Sequence[Carrier] = tuple(Carrier),
) -> list[Variant]:
    """Every shape of a family (or the named ones) in every carrier.

    Raises:
        KeyError: a shape is not in the table.
    """
    known = SHAPES[family]
    wanted = list(known) if shapes is None else list(shapes)
    for name in wanted:
        known[name]  # a typing mistake must not test less
    return [
        Variant(name, carrier, family)
        for name in wanted
        for carrier in carriers
        if carrier is Carrier.UDP or name not in UDP_ONLY
    ]
