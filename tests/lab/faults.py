"""Faults for the lab, as nftables rules in one namespace, set over netlink: no tool is needed.

Each fault is a table of its own; leaving the ``with`` block deletes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyroute2 import netns
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

from helpers.model import Family, IPAddress, Protocol

NFPROTO = {Family.IPV4: 2, Family.IPV6: 10}
# Where each header begins and what is in it: (base, offset, length).
NETWORK, TRANSPORT = 1, 2
DESTINATION = {Family.IPV4: (NETWORK, 16, 4), Family.IPV6: (NETWORK, 24, 16)}
NEXT_PROTOCOL = {Family.IPV4: (NETWORK, 9, 1), Family.IPV6: (NETWORK, 6, 1)}
DESTINATION_PORT = (TRANSPORT, 2, 2)
NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17}
REGISTER = 1
DROP = 0
DNAT_PRIORITY = -100
TABLE = "lab"

Expression = dict[str, Any]


def value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def equals(field: tuple[int, int, int], wanted: bytes) -> list[Expression]:
    """Continue the rule when a field of the packet has a value."""
    base, offset, length = field
    return [
        genex("payload", {"dreg": REGISTER, "base": base, "offset": offset, "len": length}),
        genex("cmp", {"sreg": REGISTER, "op": 0, "data": value(wanted)}),
    ]


def every(nth: int) -> list[Expression]:
    """Continue the rule for each n-th packet exactly."""
    counter = {
        "attrs": [("NFTA_NG_DREG", REGISTER), ("NFTA_NG_MODULUS", nth), ("NFTA_NG_TYPE", 0)]
    }  # genex would call its attributes NFTA_NUMGEN_...
    return [
        {"attrs": [("NFTA_EXPR_NAME", "numgen"), ("NFTA_EXPR_DATA", counter)]},
        genex("cmp", {"sreg": REGISTER, "op": 0, "data": value((0).to_bytes(4, "little"))}),
    ]


def speaking(family: Family, protocol: Protocol, port: int) -> list[Expression]:
    return [
        *equals(NEXT_PROTOCOL[family], bytes([NUMBERS[protocol]])),
        *equals(DESTINATION_PORT, port.to_bytes(2, "big")),
    ]


def toward(target: IPAddress) -> list[Expression]:
    return equals(DESTINATION[Family.of(target)], target.packed)


def drop() -> list[Expression]:
    found: list[Expression] = verdict(DROP)
    return found


def reset() -> list[Expression]:
    return [genex("reject", {"type": 1})]


def dnat(target: IPAddress) -> list[Expression]:
    """Send the packet to somebody else."""
    family = Family.of(target)
    return [
        genex("immediate", {"dreg": REGISTER, "data": value(target.packed)}),
        genex("nat", {"type": 1, "family": NFPROTO[family], "reg_addr_min": REGISTER}),
    ]


def set_hop_limit(family: Family, hops: int) -> list[Expression]:
    """Overwrite TTL or hop limit (the IPv4 header checksum is mended)."""
    mend = {"csum_type": 1, "csum_offset": 10} if family is Family.IPV4 else {"csum_type": 0}
    offset = 8 if family is Family.IPV4 else 7
    return [
        genex("immediate", {"dreg": REGISTER, "data": value(bytes([hops]))}),
        genex("payload", {"sreg": REGISTER, "base": NETWORK, "offset": offset, "len": 1, **mend}),
    ]


@contextmanager
def fault(
    namespace: str, family: Family, *rules: Sequence[Expression], nat: bool = False
) -> Iterator[None]:
    """Rules on forwarded packets (``nat``: on arriving ones) of a namespace, then no more."""
    try:
        _inside(namespace, family, lambda nft: _install(nft, rules, nat=nat))
        yield
    finally:
        _inside(namespace, family, lambda nft: nft.table("del", name=TABLE))


def _install(nft: Any, rules: Sequence[Sequence[Expression]], *, nat: bool) -> None:
    nft.table("add", name=TABLE)
    nft.chain(
        "add",
        table=TABLE,
        name="chain",
        hook="prerouting" if nat else "forward",
        type="nat" if nat else "filter",
        priority=DNAT_PRIORITY if nat else 0,
    )
    for rule in rules:
        nft.rule("add", table=TABLE, chain="chain", expressions=[list(rule)])


def _inside(namespace: str, family: Family, work: Callable[[Any], object]) -> None:
    """Work on the nftables of a namespace; entered by a thread of its own, which then ends."""
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            netns.setns(namespace)
            with NFTables(nfgen_family=NFPROTO[family]) as nft:
                work(nft)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
