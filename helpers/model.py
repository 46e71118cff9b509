"""The words of the product as types: families, protocols, verdicts, profiles.

Every module speaks these; none of them knows Kubernetes or pytest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class Family(StrEnum):
    """Address family. Its value is how Kubernetes spells it, lower case."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def version(self) -> int:
        """4 or 6, comparable with ``ipaddress`` objects' ``version``."""
        return 4 if self is Family.IPV4 else 6

    @property
    def kubernetes(self) -> str:
        """``IPv4``/``IPv6``: Service.spec.ipFamilies, EndpointSlice.addressType."""
        return "IPv4" if self is Family.IPV4 else "IPv6"

    @property
    def host_prefix(self) -> int:
        """Prefix length of one address: 32 or 128."""
        return 32 if self is Family.IPV4 else 128

    @property
    def other(self) -> Family:
        return Family.IPV6 if self is Family.IPV4 else Family.IPV4

    @property
    def record(self) -> str:
        """DNS record type that carries this family: A or AAAA."""
        return "A" if self is Family.IPV4 else "AAAA"

    @classmethod
    def of(cls, value: IPAddress | IPNetwork | str) -> Family:
        """Family of an address or network; a string may be either.

        Raises:
            ValueError: the string is neither address nor network.
        """
        if isinstance(value, str):
            value = ip_network(value, strict=False) if "/" in value else ip_address(value)
        return cls.IPV4 if value.version == 4 else cls.IPV6


FAMILIES = (Family.IPV4, Family.IPV6)


class Protocol(StrEnum):
    """What a probe speaks. ICMP means ICMPv6 when the target is IPv6."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    SCTP = "sctp"


class Verdict(StrEnum):
    """Decision about one requirement in one family, in rising order of alarm."""

    PASS = "pass"  # noqa: S105  # a verdict, not a password
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"

    @property
    def letter(self) -> str:
        """One letter for tables, so that colour is never the only sign."""
        return {"pass": "P", "skipped": "S", "blocked": "B", "inconclusive": "I", "fail": "F"}[self]

    @classmethod
    def worst(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """The most alarming of some verdicts; PASS when there are none."""
        order = list(cls)
        return max(verdicts, key=order.index, default=cls.PASS)


class Level(StrEnum):
    """Profile of conformance that a requirement belongs to."""

    CORE = "core"
    EXTENDED = "extended"
    INFORMATIONAL = "informational"


@dataclass(frozen=True, slots=True)
class DualAddresses:
    """Addresses of one thing in the order the API lists them."""

    all: tuple[IPAddress, ...]

    @classmethod
    def parse(cls, values: Iterable[str]) -> DualAddresses:
        return cls(tuple(ip_address(value) for value in values))

    def of(self, family: Family) -> IPAddress | None:
        """First address of a family, or None."""
        return next((a for a in self.all if Family.of(a) is family), None)

    def require(self, family: Family) -> IPAddress:
        """First address of a family.

        Raises:
            LookupError: there is none.
        """
        address = self.of(family)
        if address is None:
            listed = ", ".join(map(str, self.all)) or "none"
            raise LookupError(f"no {family} address among: {listed}")
        return address

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(Family.of(a) for a in self.all)
