"""Where pods' addresses come from: CFG-014, CFG-015, CFG-016."""

from __future__ import annotations

import pytest

from clusters.api import Cluster
from helpers import address_ranges, calico_config, platforms
from helpers.facts import Facts
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.verdicts import Blocked


@pytest.fixture
def without_a_pool(kube: Kube, facts: Facts, family: Family) -> list[str]:
    """What CFG-014 finds: nodes and namespaces that no pool of the family is for."""
    labels = {}
    if platforms.calico_release(facts.calico) >= calico_config.NAMESPACE_SELECTOR_SINCE:
        labels = {
            item["metadata"]["name"]: item["metadata"].get("labels", {})
            for item in kube.objects("v1", "Namespace")
        }
    return calico_config.pool_findings(facts.pools, family, facts.nodes, labels)


def test_cfg_014_every_node_has_a_pool(without_a_pool: list[str], family: Family) -> None:
    """Every schedulable node has an IP pool of the family that its pods get addresses from.

    Given: all IPPools, nodes and namespaces with their labels
    Then: for each node at least one pool is enabled, Automatic, for workloads, and selects it; and
        for each namespace one of those (namespaceSelector, Calico 3.31 and later)
    Source: Calico libcalico-go/lib/ipam (determinePools)
    """
    demand_none(without_a_pool)


def test_cfg_015_pools_are_the_cluster_cidr(
    facts: Facts, without_a_pool: list[str], family: Family
) -> None:
    """The pools that pods get addresses from are, together, the cluster CIDR of the family.

    Given: the enabled pools, and the pod CIDR that the cluster was made with
    Then: their union is that CIDR, so that every component takes the same addresses for pods'
    Source: announcement of Calico 3.11 (CALICO_IPV6POOL_CIDR equals the cluster CIDR)
    """
    if without_a_pool:
        raise Blocked("CFG-014", without_a_pool[0], family)
    pools = calico_config.workload_pools(facts.pools, family)
    found = address_ranges.pool_cover_findings(pools, family, facts.cluster_cidr(family))
    demand_none(found)


def test_cfg_016_pools_do_not_encapsulate(
    cluster: Cluster, kube: Kube, facts: Facts, family: Family
) -> None:
    """Pod packets cross the node network as they are, where the profile declares that.

    Given: all enabled pools of the family; for IPv6 also a new pool with IPIP (dry run), where
        Calico's API is installed to judge it
    Then: ipipMode and vxlanMode are Never, and the API refuses the pool with IPIP on IPv6
    Source: announcement of Calico 3.11 (no tunnel); Calico docs IPPool (IPIP is IPv4 only)
    """
    declared = cluster.spec.encapsulation.of(family)
    if declared.value != "none":
        pytest.skip(f"the profile declares encapsulation of {family}: {declared.value}")
    found = calico_config.encapsulation_findings(facts.pools, family)
    demand_none(found)
    if family is Family.IPV6:  # IPIP exists for IPv4, where the API must accept it
        accepted = calico_config.ipip_on_ipv6_is_refused(kube) is False
        assert not accepted, "Calico's API accepts an IPv6 IPPool with ipipMode Always"
