"""Which families a Service has, and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import ApiError
from helpers.model import FAMILIES, Family, IPNetwork
from helpers.services import PREFER, REQUIRE, SINGLE, refusal, stack_findings
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster


def _ranges(facts: Facts, cluster: Cluster) -> dict[Family, IPNetwork | None]:
    """Service ranges as observed; as declared where the API server's flags cannot be read."""
    declared = {family: cluster.spec.service_cidr(family) for family in cluster.spec.families}
    observed = {family: facts.service_cidr(family) for family in FAMILIES}
    return observed if facts.service_cidrs else dict(declared)


def _made(
    workloads: Workloads,
    facts: Facts,
    cluster: Cluster,
    *,
    asked: str,
    policy: str | None,
    families: Sequence[Family] | None,
    becomes: tuple[str, Sequence[Family]],
) -> Iterator[str]:
    """Create a Service and judge what the API made of it."""
    try:
        made = workloads.service(policy=policy, families=families, refusal_fails=True)
    except ApiError as error:
        yield refusal(asked, error, facts.service_cidrs)
        return
    yield from stack_findings(
        made,
        asked=asked,
        policy=becomes[0],
        families=becomes[1],
        ranges=_ranges(facts, cluster),
    )


def test_svc_001_single_stack_by_default_and_on_request(
    family: Family, cluster: Cluster, facts: Facts, workloads: Workloads
) -> None:
    """A Service with one ipFamily, or with no family fields, has one clusterIP of one family.

    Given: a Service with ipFamilies of this family only, and one without any family field.
    Then: the first is SingleStack with one clusterIP from the range of this family; the second
        is SingleStack of the cluster's declared primary family, whichever that is.
    Source: Kubernetes docs "IPv4/IPv6 dual-stack", scenarios; Kubernetes e2e dual_stack.go.
    """
    primary = cluster.spec.primary
    findings = [
        *_made(
            workloads,
            facts,
            cluster,
            asked=f"Service with ipFamilies [{family.kubernetes}]",
            policy=None,
            families=[family],
            becomes=(SINGLE, [family]),
        ),
        *_made(
            workloads,
            facts,
            cluster,
            asked=f"Service without family fields in a cluster declared {primary}-primary",
            policy=None,
            families=None,
            becomes=(SINGLE, [primary]),
        ),
    ]
    demand_none(findings)


def test_svc_002_dual_stack_in_the_order_asked(
    cluster: Cluster, facts: Facts, workloads: Workloads
) -> None:
    """A dual-stack Service has two clusterIPs in the order of its ipFamilies.

    Given: Services with PreferDualStack and RequireDualStack, with ipFamilies in both orders and
        without ipFamilies.
    Then: each keeps its policy and has one clusterIP from each family's range, in the order
        asked (without one: primary family first), and clusterIP is the first of clusterIPs.
    Source: KEP-563; Kubernetes e2e dual_stack.go.
    """
    primary = cluster.spec.primary
    orders = (list(FAMILIES), list(FAMILIES[::-1]), None)
    findings = [
        finding
        for policy, order in itertools.product((PREFER, REQUIRE), orders)
        for finding in _made(
            workloads,
            facts,
            cluster,
            asked=f"Service with {policy} and ipFamilies "
            f"{[f.kubernetes for f in order] if order else 'unset'}",
            policy=policy,
            families=order,
            becomes=(policy, order or [primary, primary.other]),
        )
    ]
    demand_none(findings)
