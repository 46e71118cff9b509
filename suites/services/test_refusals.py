"""The API refuses Services whose families cannot be."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube, Object
from helpers.model import FAMILIES, Family, IPAddress, IPNetwork
from helpers.service_refusals import (
    Impossible,
    Spec,
    ask,
    impossible_families,
    impossible_second_family,
    refusal_finding,
)
from helpers.services import REQUIRE, SINGLE
from helpers.workloads import ServiceView, Workloads


def test_svc_003_impossible_families_are_refused(
    kube: Kube, facts: Facts, workloads: Workloads
) -> None:
    """The API refuses family choices that cannot be, and says for which field.

    Given: a dual-stack Service, and requests that are only tried (dry run), each right after the
        nearest legal one, which is accepted.
    Then: refused are the same family twice, a first clusterIP of another family than the first
        ipFamily, SingleStack with two families, families of an ExternalName, and another primary
        clusterIP or family for a Service that exists. (With one service range: RequireDualStack.)
    Source: KEP-563, validation and mutability.
    """
    ranges = {f: cidr for f in FAMILIES if (cidr := facts.service_cidr(f)) is not None}
    both = len(ranges) == len(FAMILIES)
    existing = workloads.service(policy=REQUIRE if both else SINGLE, families=list(ranges))
    if both:
        cases = impossible_families(existing, _free(kube, ranges))
    else:
        cases = [impossible_second_family(*ranges)]
    demand_none([f for case in cases if (f := _finding(kube, workloads, existing, case))])


def _free(kube: Kube, ranges: Mapping[Family, IPNetwork]) -> dict[Family, IPAddress]:
    """An address of each service range that no Service has now."""
    taken = {ip for s in kube.objects("v1", "Service") for ip in s["spec"].get("clusterIPs") or []}
    return {
        family: next(
            address
            for number in range(2, cidr.num_addresses)
            # From the end: the API server gives out the lower part last.
            if str(address := cidr[-number]) not in taken
        )
        for family, cidr in ranges.items()
    }


def _finding(
    kube: Kube, workloads: Workloads, existing: ServiceView, case: Impossible
) -> str | None:
    def create(spec: Spec) -> Object:
        meta = {"name": f"{existing.name}-tried", "namespace": workloads.namespace}
        made = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
        return kube.create(made, dry_run=True)

    def change(spec: Spec) -> Object:
        where = (existing.name, {"spec": spec}, existing.namespace)
        return kube.patch("v1", "Service", *where, dry_run=True)

    send = change if case.change else create
    return refusal_finding(case, ask(send, case.legal), ask(send, case.illegal))
