"""Links with a smaller MTU between pods: told by the node in front of them, to the right one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from helpers import false_errors, path_mtu
from helpers.agents.pool import AgentPool
from helpers.findings import demand_none
from helpers.model import Family
from helpers.packet_matrix import ways
from helpers.packet_matrix.services import called_by
from helpers.paths import Path, address
from helpers.pod_netns import POD_INTERFACE, link
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

NARROW = (1400, path_mtu.LEAST_MTU)
BULK = 4 << 20
PATIENCE = 20.0  # seconds for 4 MiB; without path MTU discovery they never finish


@pytest.fixture
def to_own_pods(agents: AgentPool, workloads: Workloads, family: Family) -> list[ways.Way]:
    """From the pod of each node to a pod of the test's own on the next one."""
    return _to_new_pods(agents, workloads, family)


@pytest.fixture
def to_other_pods(agents: AgentPool, workloads: Workloads, family: Family) -> list[ways.Way]:
    """The same to other pods: whoever has learned of a smaller link to a pod remembers it."""
    return _to_new_pods(agents, workloads, family)


def _to_new_pods(agents: AgentPool, workloads: Workloads, family: Family) -> list[ways.Way]:
    names = list(agents.pods)
    if len(names) == 1:
        pytest.skip("the cluster has one node, so there is nothing between nodes")
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    made = workloads.pods([following[node] for node in names])
    return ways.between_pods(
        agents,
        [
            Path(
                agents.pods[node],
                workloads.agent(pod),
                (f"pod on {node}", f"own pod on {following[node]}"),
                (node, following[node]),
            )
            for node, pod in zip(names, made, strict=True)
        ],
        family,
    )


def test_pkt_015_nodes_answer_packets_that_are_too_big(
    family: Family,
    cluster: Cluster,
    workloads: Workloads,
    between_pods: list[ways.Way],
    to_own_pods: list[ways.Way],
    to_other_pods: list[ways.Way],
) -> None:
    """A node says how much the next link carries, also to a pod that called a Service.

    Given: pods within and between nodes; then a smaller link (1400, 1280) behind each node towards
        a pod of the test's own, called by its address and by a ClusterIP
    Then: every size up to the pods' MTU passes without it; with it what fits passes, 1280 octets
        always do, and the rest is answered Packet Too Big (Fragmentation Needed) with the right
        MTU by the node; TCP moves 4 MiB
    Source: RFC 4443 3.2, RFC 8201 4, RFC 8200 5, RFC 1191 4
    """
    _require_ours(cluster)
    mtus = {way: link(way.source, POD_INTERFACE).mtu for way in [*between_pods, *to_own_pods]}
    whole = [(way, size) for way in between_pods for size in path_mtu.sizes(NARROW[0], mtus[way])]
    found = path_mtu.findings(path_mtu.observe(whole, mtus), mtus, family)
    services = _called_by_service(workloads, to_own_pods, family)
    mtus |= dict.fromkeys(services, mtus[to_own_pods[0]])
    taken = [*to_own_pods, *services]
    for narrow in NARROW:
        found += _sweep(taken, mtus, narrow, family)
    taken = [*to_other_pods, *_called_by_service(workloads, to_other_pods, family)]
    for narrow in NARROW:
        found += _bulk(taken, narrow, family)
    demand_none(found)


def test_pkt_015_unasked_errors_change_nothing(
    family: Family, between_pods: list[ways.Way]
) -> None:
    """A pod cannot tell another one a smaller MTU for a path that it is not on.

    Given: pods within and between nodes; a plain packet, then Packet Too Big (Fragmentation
        Needed) about a packet that the receiver never sent
    Then: the plain packet arrives, the error does not, and the receiver's route cache is as it was
    Source: RFC 8201 4, RFC 5927 7; Calico drops what connection tracking calls INVALID
    """
    seen = false_errors.observe(between_pods)
    found = false_errors.findings(seen)
    demand_none(found)
    false_errors.require_control(seen)


def _called_by_service(
    workloads: Workloads, direct: Sequence[ways.Way], family: Family
) -> list[ways.Way]:
    """The first of the ways, called by the ClusterIP of a Service with its target alone."""
    first = direct[0]
    pod = first.target.identity
    label = {"app": f"narrow-{pod}"}
    workloads.kube.patch("v1", "Pod", pod, {"metadata": {"labels": label}}, workloads.namespace)
    service = workloads.service(selector=label)
    address_ = service.cluster_ips.require(family)
    return called_by([first], ways.CLUSTER_IP, address_, 80, by="SVC-007")


@contextmanager
def _narrowed(taken: Sequence[ways.Way], family: Family, mtu: int) -> Iterator[None]:
    """A link of ``mtu`` behind the first node of each way."""
    targets = {(way.places[1].agent, address(way.target, family)) for way in taken}
    with ExitStack() as stack:
        for node, target in targets:
            stack.enter_context(path_mtu.narrowed(node, target, mtu))
        yield


def _sweep(
    taken: Sequence[ways.Way], mtus: dict[ways.Way, int], narrow: int, family: Family
) -> list[str]:
    """Findings of every size over ways with a smaller link behind a node."""
    limits = dict.fromkeys(taken, narrow)
    wanted = [(way, size) for way in taken for size in path_mtu.sizes(narrow, mtus[way])]
    with _narrowed(taken, family, narrow):
        return path_mtu.findings(path_mtu.observe(wanted, limits), limits, family)


def _bulk(taken: Sequence[ways.Way], narrow: int, family: Family) -> list[str]:
    """Findings of a bulk transfer over each way with a smaller link behind a node."""
    with _narrowed(taken, family, narrow):
        return [
            told for way in taken for told in path_mtu.bulk_findings(way, narrow, BULK, PATIENCE)
        ]


def _require_ours(cluster: Cluster) -> None:
    if not cluster.owned:
        pytest.skip("a smaller link is a route on the nodes, which this cluster's owner must allow")
