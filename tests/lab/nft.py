"""nftables rules as expressions, set over netlink in a namespace: no tool is needed.

A rule is a list of expressions: matches first, then what becomes of the packet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2 import netns
from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

from helpers.model import Family, IPAddress, Protocol

NFPROTO = {Family.IPV4: 2, Family.IPV6: 10}
# Where each header begins and what is in it: (base, offset, length).
NETWORK, TRANSPORT = 1, 2
SOURCE = {Family.IPV4: (NETWORK, 12, 4), Family.IPV6: (NETWORK, 8, 16)}
DESTINATION = {Family.IPV4: (NETWORK, 16, 4), Family.IPV6: (NETWORK, 24, 16)}
NEXT_PROTOCOL = {Family.IPV4: (NETWORK, 9, 1), Family.IPV6: (NETWORK, 6, 1)}
DESTINATION_PORT = (TRANSPORT, 2, 2)
ICMP_TYPE = (TRANSPORT, 0, 1)
NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17}
ICMP_NUMBER = {Family.IPV4: 1, Family.IPV6: 58}
REGISTER = 1
DROP = 0
EQUAL, UNEQUAL, GREATER = 0, 1, 4
BYTEORDER_HTON = 1
TCP_OPTION_MSS, EXTHDR_TCPOPT = 2, 1
# Keys of meta and ct, result and flags of fib: linux/netfilter/nf_tables.h.
META_LEN, META_PRIORITY, META_L4PROTO, META_IIFNAME, META_OIFNAME = 0, 2, 16, 6, 7
CT_STATE, CT_INVALID = 0, 1
FIB_SADDR_IIF = 1 << 0 | 1 << 3
# pyroute2 encodes the result as a flag and calls the one with number 1, the interface, UNSPEC.
FIB_RESULT_OIF = frozenset({"NFT_FIB_RESULT_UNSPEC"})

Expression = dict[str, Any]
Rule = Sequence[Expression]


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain. Priorities: raw -300, dnat -100, filter 0; below -400 sees fragments whole."""

    hook: str = "forward"
    priority: int = 0
    type: str = "filter"


def value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def compared(wanted: bytes, operation: int = EQUAL) -> Expression:
    found: Expression = genex("cmp", {"sreg": REGISTER, "op": operation, "data": value(wanted)})
    return found


def equals(field: tuple[int, int, int], wanted: bytes) -> list[Expression]:
    """Continue the rule when a field of the packet has a value."""
    base, offset, length = field
    read = {"dreg": REGISTER, "base": base, "offset": offset, "len": length}
    return [genex("payload", read), compared(wanted)]


def coming_from(interface: str) -> list[Expression]:
    """Continue for packets that entered by an interface; ``cali*`` names all that begin so."""
    return _interface(META_IIFNAME, interface)


def leaving_by(interface: str) -> list[Expression]:
    return _interface(META_OIFNAME, interface)


def _interface(key: int, name: str) -> list[Expression]:
    wanted = name[:-1].encode() if name.endswith("*") else name.encode().ljust(16, b"\0")
    return [genex("meta", {"dreg": REGISTER, "key": key}), compared(wanted)]


def every(nth: int) -> list[Expression]:
    """Continue the rule for each n-th packet exactly."""
    counter = {
        "attrs": [("NFTA_NG_DREG", REGISTER), ("NFTA_NG_MODULUS", nth), ("NFTA_NG_TYPE", 0)]
    }  # genex would call its attributes NFTA_NUMGEN_...
    return [
        {"attrs": [("NFTA_EXPR_NAME", "numgen"), ("NFTA_EXPR_DATA", counter)]},
        compared((0).to_bytes(4, "little")),
    ]


def speaking(family: Family, protocol: Protocol, port: int) -> list[Expression]:
    return [
        *equals(NEXT_PROTOCOL[family], bytes([NUMBERS[protocol]])),
        *equals(DESTINATION_PORT, port.to_bytes(2, "big")),
    ]


def icmp(family: Family, kind: int) -> list[Expression]:
    """Continue for ICMP (ICMPv6) packets of a type, behind any extension headers."""
    return [
        genex("meta", {"dreg": REGISTER, "key": META_L4PROTO}),
        compared(bytes([ICMP_NUMBER[family]])),
        *equals(ICMP_TYPE, bytes([kind])),
    ]


def extension(header: int) -> list[Expression]:
    """Continue for IPv6 packets that have an extension header (0 hop-by-hop, 44 fragment, 60)."""
    look = {
        "dreg": REGISTER,
        "type": header,
        "offset": 0,
        "len": 1,
        "flags": frozenset({"NFT_EXTHDR_F_PRESENT"}),
    }
    return [genex("exthdr", look), compared(b"\1")]


def protocol(number: int) -> list[Expression]:
    """Continue for packets with an upper layer, behind any extension headers."""
    return [genex("meta", {"dreg": REGISTER, "key": META_L4PROTO}), compared(bytes([number]))]


def longer_than(octets: int) -> list[Expression]:
    """Continue for packets of more octets in all."""
    length = genex("meta", {"dreg": REGISTER, "key": META_LEN})
    turned = {"sreg": REGISTER, "dreg": REGISTER, "op": BYTEORDER_HTON, "len": 4, "size": 4}
    return [length, genex("byteorder", turned), compared(octets.to_bytes(4, "big"), GREATER)]


def source(address: IPAddress) -> list[Expression]:
    return equals(SOURCE[Family.of(address)], address.packed)


def toward(target: IPAddress) -> list[Expression]:
    return equals(DESTINATION[Family.of(target)], target.packed)


def without_way_back() -> list[Expression]:
    """Continue for packets whose source is not routed over the interface they came by."""
    look = {"dreg": REGISTER, "result": FIB_RESULT_OIF, "flags": FIB_SADDR_IIF}
    return [genex("fib", look), compared(bytes(4))]


def invalid() -> list[Expression]:
    """Continue for packets that connection tracking calls INVALID."""
    mask = (1 << (CT_INVALID - 1)).to_bytes(4, "little")
    masked = {"sreg": REGISTER, "dreg": REGISTER, "len": 4, "mask": value(mask)}
    return [
        genex("ct", {"dreg": REGISTER, "key": CT_STATE}),
        genex("bitwise", {**masked, "xor": value(bytes(4))}),
        compared(bytes(4), UNEQUAL),
    ]


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


def masquerade() -> list[Expression]:
    return [genex("masq", {})]


def set_hop_limit(family: Family, hops: int) -> list[Expression]:
    """Overwrite TTL or hop limit (the IPv4 header checksum is mended)."""
    mend = {"csum_type": 1, "csum_offset": 10} if family is Family.IPV4 else {"csum_type": 0}
    offset = 8 if family is Family.IPV4 else 7
    return [
        genex("immediate", {"dreg": REGISTER, "data": value(bytes([hops]))}),
        genex("payload", {"sreg": REGISTER, "base": NETWORK, "offset": offset, "len": 1, **mend}),
    ]


def wipe_markings(family: Family) -> list[Expression]:
    """Overwrite DSCP, ECN and, for IPv6, the flow label (the IPv4 header checksum is mended)."""
    if family is Family.IPV4:
        data, mend = b"\x45\0", {"csum_type": 1, "csum_offset": 10}
    else:
        data, mend = b"\x60\0\0\0", {"csum_type": 0}
    write = {"sreg": REGISTER, "base": NETWORK, "offset": 0, "len": len(data), **mend}
    return [
        genex("immediate", {"dreg": REGISTER, "data": value(data)}),
        genex("payload", write),
    ]


def set_mss(octets: int) -> list[Expression]:
    """Overwrite the MSS option of TCP segments that have one."""
    option = {"sreg": REGISTER, "type": TCP_OPTION_MSS, "offset": 2, "len": 2, "op": EXTHDR_TCPOPT}
    return [
        genex("immediate", {"dreg": REGISTER, "data": value(octets.to_bytes(2, "big"))}),
        genex("exthdr", option),
    ]


def set_priority(major: int, minor: int) -> list[Expression]:
    """Send the packet to a class of the queueing discipline of the interface it leaves by."""
    handle = (major << 16 | minor).to_bytes(4, "little")
    return [
        genex("immediate", {"dreg": REGISTER, "data": value(handle)}),
        genex("meta", {"sreg": REGISTER, "key": META_PRIORITY}),
    ]


def install(nft: Any, table: str, chains: Sequence[tuple[Chain, Sequence[Rule]]]) -> None:
    """A table with its chains and rules."""
    nft.table("add", name=table)
    for number, (chain, rules) in enumerate(chains):
        name = f"chain{number}"
        nft.chain(
            "add",
            table=table,
            name=name,
            hook=chain.hook,
            type=chain.type,
            priority=chain.priority,
        )
        for rule in rules:
            nft.rule("add", table=table, chain=name, expressions=[list(rule)])


def add_table(
    namespace: str, family: Family, table: str, chains: Sequence[tuple[Chain, Sequence[Rule]]]
) -> None:
    inside(namespace, lambda: _with_nft(family, lambda nft: install(nft, table, chains)))


def delete_table(namespace: str, family: Family, table: str) -> None:
    inside(namespace, lambda: _with_nft(family, lambda nft: nft.table("del", name=table)))


def _with_nft(family: Family, work: Callable[[Any], object]) -> None:
    with NFTables(nfgen_family=NFPROTO[family]) as nft:
        work(nft)


def inside(namespace: str, work: Callable[[], object]) -> None:
    """Do something in a namespace; it is entered by a thread of its own, which then ends."""
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            netns.setns(namespace)
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
