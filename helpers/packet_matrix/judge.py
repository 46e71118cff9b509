"""From what was seen of a packet to an outcome in words, and whether that is as it must be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from helpers.findings import listed
from helpers.packet_matrix.expected import PLAIN, Expected, expectations
from helpers.packet_matrix.flight import Flown
from helpers.packet_matrix.ways import SAME_NODE
from helpers.verdicts import Blocked

DELIVERED: Final = "delivered"
SILENT: Final = "silent"
DROPPED: Final = "dropped"
ASTRAY: Final = "sent on to a third host"
ERROR: Final = "error"


def outcome(flown: Flown) -> str:
    """The words of ``expected.yaml``: what became of one packet."""
    told = [ASTRAY] if flown.astray else []
    if flown.replied:
        told.append(DELIVERED)
    told += [
        f"{ERROR} {error} from {flown.way.roles.get(source, str(source))}"
        for error, source in flown.errors
    ]
    if told:
        return " and ".join(told)
    return SILENT if flown.arrived else DROPPED


def is_as(seen: str, choices: Sequence[str]) -> bool:
    """Whether an outcome is one of the expected; ``error 4/3`` leaves open from whom."""
    return any(seen == one or (one.startswith(ERROR) and seen.startswith(f"{one} from"))
               for one in choices)  # fmt: skip


def expected_of(flown: Flown) -> Expected:
    return expectations()[flown.variant.family][flown.variant.shape]


def lacks_error(flown: Flown) -> bool:
    """An ICMP error may be the expected outcome, none came, and what was seen is not another."""
    wanted = expected_of(flown).on(flown.way.kind, lambda: flown.way.kernel)
    may_be_error = any(one.startswith(ERROR) for one in wanted)
    return may_be_error and not flown.errors and not is_as(outcome(flown), wanted)


def finding(flown: Flown) -> str | None:
    """What is wrong with one outcome, as a sentence; None when it is as it must be."""
    expected, seen = expected_of(flown), outcome(flown)
    where = (flown.way.kind, lambda: flown.way.kernel)
    known, now = expected.known_on(*where), expected.on(*where)
    if is_as(seen, now):
        return None
    told = f"{seen} ({flown.carried.where_lost})" if seen == DROPPED else seen
    what = f"{expected.words} ({flown.variant.carrier}), {flown.way.kind}, {flown.way.label}"
    if known and is_as(seen, expected.expect):
        return (
            f"{what}: {told}, as {expected.source} wants. So far it was {listed(known.expect)} "
            f"({known.why}): that deviation is gone here, take `known` of {expected.shape} out of "
            "suites/packets/expected.yaml"
        )
    source = known.source if known else expected.source
    return f"{what}: {told}, expected {' or '.join(now)} ({source})"


def findings(flown: Iterable[Flown]) -> list[str]:
    """Everything that is not as it must be, controls left out."""
    return [
        told
        for one in flown
        if expected_of(one).requirement != PLAIN and (told := finding(one)) is not None
    ]


def failing(flown: Iterable[Flown]) -> list[Flown]:
    return [one for one in flown if finding(one) is not None]


def require_plain(flown: Sequence[Flown]) -> None:
    """The control: on each way a plain packet in the same carrier is delivered.

    Raises:
        Blocked: it is not; by the requirement that says that it must be.
        Inconclusive: a packet did not leave.
    """
    for one in flown:
        one.carried.require_left()
    for one in flown:
        if expected_of(one).requirement == PLAIN and outcome(one) != DELIVERED:
            by = "CONN-001" if one.way.kind == SAME_NODE else "CONN-002"
            why = f"a plain packet is {outcome(one)} ({one.carried.where_lost}): {one.label}"
            raise Blocked(by, why, one.variant.family)
