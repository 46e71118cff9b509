"""Address ranges of pods and Services: CFG-003, CFG-004, CFG-006."""

from __future__ import annotations

import pytest

from helpers import address_ranges
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.verdicts import Inconclusive

CONTROLLER = "kube-controller-manager"


@pytest.fixture
def controller_flags(facts: Facts) -> dict[str, list[str]]:
    """Flags of a kube-controller-manager that gives nodes their podCIDRs."""
    flags = facts.arguments(CONTROLLER)
    if not flags:
        raise Inconclusive(
            f"the flags of {CONTROLLER} cannot be seen: kube-system has no static pod with the "
            f"label component={CONTROLLER} (managed control plane)"
        )
    if flags.get("allocate-node-cidrs") != ["true"]:
        pytest.skip(f"{CONTROLLER} gives nodes no podCIDRs (--allocate-node-cidrs is not true)")
    return flags


def test_cfg_003_one_cluster_cidr_with_room_for_all_nodes(
    facts: Facts, controller_flags: dict[str, list[str]], family: Family
) -> None:
    """kube-controller-manager has one cluster CIDR of the family, large enough for every node.

    Given: its flags --cluster-cidr and --node-cidr-mask-size-ipv4/-ipv6
    Then: exactly one CIDR of the family; the node mask is not shorter than the CIDR's, for IPv6
        at most 16 bits longer; there are at least as many node blocks as nodes
    Source: Kubernetes pkg/controller/nodeipam cidr_set.go (clusterSubnetMaxDiff)
    """
    found = address_ranges.cluster_cidr_findings(
        facts.cidrs(CONTROLLER, "cluster-cidr"),
        family,
        mask=address_ranges.node_mask(controller_flags, family),
        nodes=len(facts.nodes),
    )
    demand_none(found)


def test_cfg_004_one_service_range_the_same_everywhere(
    kube: Kube, facts: Facts, family: Family
) -> None:
    """The API server gives Services addresses of the family, from the range all agree on.

    Given: --service-cluster-ip-range of API server and controller manager, the ServiceCIDR
        "kubernetes" (Kubernetes 1.33 and later), and a Service of this family only (dry run)
    Then: each lists exactly one range of the family, all in the same order, and the API accepts
        the Service
    Source: KEP-563 (Services); KEP-1880
    """
    if facts.minor < 20:
        pytest.skip(f"Kubernetes 1.{facts.minor} has one family per Service (legacy API)")
    ranges = address_ranges.service_ranges(kube, facts)
    found = address_ranges.service_range_findings(
        family, ranges, refusal=address_ranges.service_refusal(kube, family)
    )
    demand_none(found)


def test_cfg_006_every_node_has_a_pod_cidr_of_its_own(
    facts: Facts, controller_flags: dict[str, list[str]], family: Family
) -> None:
    """Every node has one podCIDR of the family, inside the cluster CIDR, that no other node has.

    Given: spec.podCIDR and spec.podCIDRs of all nodes, given out by kube-controller-manager
    Then: exactly one of the family, inside its --cluster-cidr, disjoint from the others', and
        podCIDR equals podCIDRs[0]
    Source: Kubernetes docs "Validate IPv4/IPv6 dual-stack"; KEP-563 test list
    """
    cidrs = facts.cidrs(CONTROLLER, "cluster-cidr")
    found = address_ranges.pod_cidr_findings(facts.nodes, family, cidrs)
    demand_none(found)
