"""What a node's kernel holds for kube-proxy in ipvs mode, parsed from text.

Three sources, each there on every kernel with ip_vs: ``/proc/net/ip_vs``, ``ipset save`` and
``ip -j addr``. Pure functions; ``helpers.ipvs.nodes`` reads the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Final

from helpers.model import Family, IPAddress

DUMMY: Final = "kube-ipvs0"  # the dummy interface that makes Service addresses local to the node


def at(address: IPAddress, port: int) -> str:
    """``10.96.0.1:80`` or ``[fd00::1]:80``."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """Where IPVS listens. Protocols are lower case."""

    protocol: str
    address: IPAddress
    port: int

    @property
    def family(self) -> Family:
        return Family.of(self.address)

    def __str__(self) -> str:
        return f"{at(self.address, self.port)}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class RealServer:
    """Where a virtual server sends connections to."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return at(self.address, self.port)


@dataclass(frozen=True, slots=True)
class Destination:
    """How the kernel uses a real server. ``forward`` is ``Masq``, ``Local``, ``Tunnel``, ..."""

    forward: str
    weight: int
    connections: int


@dataclass(frozen=True, slots=True)
class Serving:
    """One virtual server in the kernel.

    Attributes:
        ticks: how long a client stays with its real server, in ticks of the kernel's clock (it
            prints no seconds); None: not persistent.
        mask: which bits of the client's address count for that, as the kernel prints it.
    """

    scheduler: str
    ticks: int | None = None
    mask: str | None = None
    real: Mapping[RealServer, Destination] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KernelSet:
    """One ipset: its type (``hash:ip,port``), family (``inet``; empty for ports only), entries."""

    kind: str
    family: str
    entries: frozenset[str]


@dataclass(frozen=True, slots=True)
class KernelState:
    """What one node's kernel holds.

    Attributes:
        bound: addresses of kube-ipvs0; None: there is no such interface.
        servers: virtual servers of both families.
        sets: ipsets by name.
        sysctls: values by name (``net/ipv4/vs/conntrack``); None: the kernel has no such name.
    """

    bound: frozenset[IPAddress] | None
    servers: Mapping[VirtualServer, Serving]
    sets: Mapping[str, KernelSet]
    sysctls: Mapping[str, str | None] = field(default_factory=dict)


# -- /proc/net/ip_vs ------------------------------------------------------------------------------

# TCP  0A600001:01BB rr persistent 1080000 FFFFFFFF
# UDP  [fd00:0010:0096:0000:0000:0000:0000:000a]:0035 rr
_SERVER: Final = re.compile(
    r"(?P<protocol>TCP|UDP|SCTP)\s+(?P<at>\S+)\s+(?P<scheduler>\S+)(?P<flags>.*)"
)
_PERSISTENT: Final = re.compile(r"persistent (?P<ticks>\d+) (?P<mask>[0-9A-F]{8})")
#   -> 0AF40102:1F90      Masq    1      0          0
_REAL: Final = re.compile(
    r"\s+-> (?P<at>\S+)\s+(?P<forward>[A-Z]\w+)\s+(?P<weight>\d+)\s+(?P<active>\d+)"
    r"\s+(?P<inactive>\d+)"
)


def parse_servers(text: str) -> dict[VirtualServer, Serving]:
    """Virtual servers with their real servers from ``/proc/net/ip_vs`` (ip_vs_ctl.c)."""
    found: dict[VirtualServer, Serving] = {}
    real: dict[RealServer, Destination] = {}
    for line in text.splitlines():
        server = _SERVER.match(line)
        if server:
            address, port = _place(server["at"])
            persistent = _PERSISTENT.search(server["flags"])
            real = {}
            found[VirtualServer(server["protocol"].lower(), address, port)] = Serving(
                server["scheduler"],
                int(persistent["ticks"]) if persistent else None,
                persistent["mask"] if persistent else None,
                real,
            )
            continue
        destination = _REAL.match(line)
        if destination:
            real[RealServer(*_place(destination["at"]))] = Destination(
                destination["forward"],
                int(destination["weight"]),
                int(destination["active"]) + int(destination["inactive"]),
            )
    return found


def _place(text: str) -> tuple[IPAddress, int]:
    """IPv4 is printed as one hexadecimal number, IPv6 in brackets; the port is hexadecimal."""
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        return ip_address(host.strip("[]")), int(port, 16)
    return IPv4Address(int(host, 16)), int(port, 16)


# -- ipset save -----------------------------------------------------------------------------------


def parse_sets(text: str) -> dict[str, KernelSet]:
    """ipsets from ``ipset save``: ``create NAME TYPE OPTIONS`` and ``add NAME ENTRY`` lines."""
    kinds: dict[str, tuple[str, str]] = {}
    entries: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["create"]:
            family = words[words.index("family") + 1] if "family" in words else ""
            kinds[words[1]] = (words[2], family)
            entries[words[1]] = set()
        elif words[:1] == ["add"]:
            entries[words[1]].add(words[2])
    return {
        name: KernelSet(kind, family, frozenset(entries[name]))
        for name, (kind, family) in kinds.items()
    }
