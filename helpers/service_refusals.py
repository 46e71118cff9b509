"""Services whose families cannot be: what the API must refuse, each beside what it must accept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from helpers.kube import ApiError
from helpers.model import FAMILIES, Family, IPAddress
from helpers.services import REQUIRE, SINGLE
from helpers.workloads import tcp_port

if TYPE_CHECKING:
    from helpers.workloads import ServiceView

INVALID: Final = 422
Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Impossible:
    """A request that must be refused.

    Attributes:
        asked: what is asked of the API, in words.
        legal: the nearest request that must be accepted: the control.
        illegal: the request that must be refused.
        field: the field of Service.spec that the refusal must name.
        change: the requests change a Service that exists; else they make one.
    """

    asked: str
    legal: Spec
    illegal: Spec
    field: str
    change: bool = False


def _spec(families: Sequence[Family], policy: str, **more: Any) -> dict[str, Any]:
    return {
        "ports": [tcp_port()],
        "ipFamilyPolicy": policy,
        "ipFamilies": [family.kubernetes for family in families],
        **more,
    }


def impossible_families(
    existing: ServiceView, free: Mapping[Family, IPAddress]
) -> list[Impossible]:
    """Requests about families that the API must refuse, for a cluster with both service ranges.

    Args:
        existing: a dual-stack Service, IPv4 first; requests to change it are about it.
        free: an address of each service range that no Service has.

    Source: KEP-563 (validation, mutability).
    """
    both, reverse = list(FAMILIES), list(FAMILIES[::-1])
    cases = [
        Impossible(
            f"a Service with the family {family.kubernetes} twice",
            _spec(both, REQUIRE),
            _spec([family, family], REQUIRE),
            "spec.ipFamilies",
        )
        for family in FAMILIES
    ]
    cases += [
        Impossible(
            f"a Service whose first family is {order[0].kubernetes} and whose first clusterIP is "
            f"{order[1].kubernetes}",
            _spec(order, REQUIRE, clusterIPs=[str(free[order[0]])], clusterIP=str(free[order[0]])),
            _spec(order, REQUIRE, clusterIPs=[str(free[order[1]])], clusterIP=str(free[order[1]])),
            "spec.clusterIPs",
        )
        for order in (both, reverse)
    ]
    cases.append(
        Impossible(
            "a SingleStack Service with two families",
            _spec(both[:1], SINGLE),
            _spec(both, SINGLE),
            "spec.ipFamilyPolicy",
        )
    )
    cases.append(
        Impossible(
            "an ExternalName Service with a family",
            {"type": "ExternalName", "externalName": "name.invalid"},
            {"type": "ExternalName", "externalName": "name.invalid", "ipFamilies": ["IPv4"]},
            "spec.ipFamilies",
        )
    )
    return [*cases, *_impossible_changes(existing, free)]


def _impossible_changes(
    existing: ServiceView, free: Mapping[Family, IPAddress]
) -> list[Impossible]:
    addresses = [str(a) for a in existing.cluster_ips.all]
    families = [family.kubernetes for family in existing.families]
    first = existing.families[0]
    moved = [str(free[first]), *addresses[1:]]
    same = {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": families}
    return [
        Impossible(
            "another primary clusterIP for a Service that exists",
            same,
            {**same, "clusterIP": moved[0], "clusterIPs": moved},
            "spec.clusterIPs",
            change=True,
        ),
        Impossible(
            "another primary family for a Service that exists",
            same,
            {
                "ipFamilies": families[::-1],
                "clusterIP": addresses[1],
                "clusterIPs": addresses[::-1],
            },
            "spec.ipFamilies",
            change=True,
        ),
    ]


def impossible_second_family(family: Family) -> Impossible:
    """For a cluster with one service range: RequireDualStack cannot be met (KEP-563)."""
    return Impossible(
        "a RequireDualStack Service in a cluster with one service range",
        _spec([family], SINGLE),
        _spec([family], REQUIRE),
        "spec.ipFamilyPolicy",
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said to a request: None where it accepted."""

    refused: str | None
    status: int = 0


def ask(send: Callable[[Spec], object], spec: Spec) -> Answer:
    """Send a request and hear what the API says."""
    try:
        send(copy.deepcopy(dict(spec)))
    except ApiError as error:
        return Answer(error.message, error.status)
    return Answer(None)


def refusal_finding(case: Impossible, legal: Answer, illegal: Answer) -> str | None:
    """SVC-003: the impossible is refused for what is impossible about it, the legal is not.

    A refusal for another reason proves nothing, and neither does one by an API that refuses all.
    """
    if legal.refused is not None:
        return (
            f"the API refused the legal twin of {case.asked} ({legal.refused}): so its refusals "
            "prove nothing; look at the admission webhooks and policies of the cluster"
        )
    if illegal.refused is None:
        return (
            f"the API accepted {case.asked}; it must refuse it ({case.field}, KEP-563): look for "
            "admission webhooks or policies that change Services, and at the API server's version"
        )
    # A primary address is refused by the name of either field that holds it.
    fields = {case.field, case.field.removesuffix("s")}
    if illegal.status != INVALID or not any(f in illegal.refused for f in fields):
        return (
            f"the API refused {case.asked}, but not for {case.field}: {illegal.refused} (status "
            f"{illegal.status})"
        )
    return None
