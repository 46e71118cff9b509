"""What happens to pods that are made now: PODIP-002, 007, 011."""

from __future__ import annotations

from clusters.api import Cluster
from helpers import newborn
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.kube import Kube
from helpers.model import Family
from helpers.verdicts import Inconclusive
from helpers.workloads import Workloads


def test_podip_002_new_pods_get_one_address_of_each_family(
    cluster: Cluster, agents: AgentPool, workloads: Workloads, family: Family
) -> None:
    """A pod that is created now is dual-stack, on every node.

    Given: a new pod on each node
    Then: its podIPs hold exactly one address of the family
    Source: Kubernetes e2e dual_stack.go "add ipv6 and ipv4 ip to pod ips"
    """
    birth = newborn.birth(cluster.state, workloads, agents)

    demand_none(newborn.birth_findings(birth, family))


def test_podip_007_new_pods_reach_something_within_a_second(
    cluster: Cluster, agents: AgentPool, workloads: Workloads, family: Family
) -> None:
    """A program need not wait for its network when its container starts.

    Given: a new pod on each node, whose first program calls its node and two other pods
    Then: one of them answers within 1 s of the program's start
    Source: Calico cni-plugin dataplane_linux.go (duplicate address detection is off)
    """
    birth = newborn.birth(cluster.state, workloads, agents)
    newborn.require_birth(birth, family)

    demand_none(newborn.contact_findings(birth, family))


def test_podip_011_addresses_of_deleted_pods_are_released(
    cluster: Cluster, kube: Kube, agents: AgentPool, workloads: Workloads, family: Family
) -> None:
    """Deleting a pod gives its address back at once, also when its creation had failed.

    Given: new pods on each node and one that cannot be created (its IPv6 pool does not exist)
    Then: within 30 s of their deletion IPAM holds no allocation of theirs
    Source: Calico design/ipam/ipam-cni.md, DEL
    """
    birth = newborn.birth(cluster.state, workloads, agents)
    newborn.require_birth(birth, family)
    if birth.failed_event is None:
        raise Inconclusive(
            "the pod with an IPv6 pool that does not exist did not fail, so the release after a "
            "failed creation was not observed: Calico ignores cni.projectcalico.org/ipv6pools"
        )

    released = newborn.releases(kube, birth, family)

    assert released, "IPAM never held an address of the new pods: PODIP-010 says more"
    demand_none(newborn.release_findings(released))
