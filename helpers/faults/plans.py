"""What a fault does: a function from a Bench to a Plan, found by the id of the fault.

    @plants("F11")
    def ipv6_forwarding_off(bench: Bench) -> Plan:
        return Plan([Sysctl(node=bench.worker, name="net/ipv6/conf/all/forwarding", value="0")])

The changes may come from a generator, so that a later one can depend on what an earlier one did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Change, Step
from helpers.model import Family


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of a fault, in order, and when it has taken effect.

    Args:
        changes: reverted in the opposite order.
        settled: looks at the cluster and says whether the fault shows (a sentence: not yet,
            because); None: it shows as soon as the changes are made.
        healed: the same for its absence, beyond the changes being reverted.
        what: what ``settled`` waits for, for messages.
        steps: run before the changes, for what leaves no state behind (a restart).
    """

    changes: Iterable[Change] = ()
    settled: Callable[[], bool | str] | None = None
    healed: Callable[[], bool | str] | None = None
    what: str = "the fault shows"
    steps: Sequence[Step] = ()


Planter = Callable[[Bench], Plan]
FamilyPlanter = Callable[[Bench, Family], Plan]

_planters: Final[dict[str, Planter]] = {}


def plants(fault: str) -> Callable[[Planter], Planter]:
    """Register how a fault of ``suites/faults.yaml`` is planted.

    Raises:
        ValueError: two functions plant the same fault.
    """

    def register(planter: Planter) -> Planter:
        if fault in _planters:
            raise ValueError(f"{fault} is planted by two functions")
        _planters[fault] = planter
        return planter

    return register


def plants_twins(ipv6: str, ipv4: str) -> Callable[[FamilyPlanter], FamilyPlanter]:
    """The same for a fault of each family that one function plants: (bench, family)."""

    def register(planter: FamilyPlanter) -> FamilyPlanter:
        plants(ipv6)(lambda bench: planter(bench, Family.IPV6))
        plants(ipv4)(lambda bench: planter(bench, Family.IPV4))
        return planter

    return register


def planters() -> Mapping[str, Planter]:
    """All registered functions by fault; complete once ``helpers.faults.catalogue`` is imported."""
    return MappingProxyType(_planters)
