"""Whom the outside sees, and whom pods see: recorded good and faulty observations."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from helpers.calico import IPPool
from helpers.egress import Departure, inbound_findings, require_seen, source_findings
from helpers.matrix import Cell
from helpers.model import Family, Protocol
from helpers.off_cluster import masquerade_findings, preserved_findings, sources_seen
from helpers.probes import Observation, Outcome, Probe
from helpers.verdicts import Blocked

POD4, NODE4 = ip_address("10.244.1.5"), ip_address("10.243.0.3")
POD6, NODE6 = ip_address("fd00:10:244::5"), ip_address("fd00:10:243::3")
OUTSIDE = ip_address("198.51.100.10")


def pool(cidr: str, *, nat: bool) -> IPPool:
    return IPPool.from_api(
        {"metadata": {"name": "default"}, "spec": {"cidr": cidr, "natOutgoing": nat}}
    )


def departure(pod: object, node: object, *seen: object) -> Departure:
    return Departure("agent-x", "worker", pod, (node,), frozenset(seen))  # type: ignore[arg-type]


class TestDepartures:
    """EGR-003, EGR-004."""

    def test_translated_and_not(self) -> None:
        pools = [pool("10.244.0.0/16", nat=True), pool("fd00:10:244::/56", nat=False)]
        assert source_findings([departure(POD4, NODE4, NODE4)], pools, translated=True) == []
        assert source_findings([departure(POD6, NODE6, POD6)], pools, translated=False) == []

    def test_nat_outgoing_switched_off(self) -> None:
        """F15."""
        (found,) = source_findings(
            [departure(POD4, NODE4, POD4)], [pool("10.244.0.0/16", nat=False)], translated=True
        )
        assert found == (
            "pod agent-x on worker: the outside saw 10.244.1.5 instead of an address of node "
            "worker (10.243.0.3); IPPool default has natOutgoing: false, the profile declares "
            "true: change the one or the other"
        )

    def test_nat_outgoing_switched_on(self) -> None:
        """F16."""
        (found,) = source_findings(
            [departure(POD6, NODE6, NODE6)], [pool("fd00:10:244::/56", nat=True)], translated=False
        )
        assert "the outside saw fd00:10:243::3 instead of the pod's own fd00:10:244::5" in found
        assert "natOutgoing: true, the profile declares false" in found

    def test_felix_does_not_do_what_the_pool_says(self) -> None:
        (found,) = source_findings(
            [departure(POD4, NODE4, POD4)], [pool("10.244.0.0/16", nat=True)], translated=True
        )
        assert "natOutgoing: true, as the profile declares: look at Felix's rules" in found

    def test_some_flows_translated_and_some_not(self) -> None:
        (found,) = source_findings(
            [departure(POD6, NODE6, POD6, NODE6)],
            [pool("fd00:10:244::/56", nat=False)],
            translated=False,
        )
        assert "the outside saw fd00:10:243::3" in found

    def test_a_pod_that_is_not_heard(self) -> None:
        """Its source is not wrong: EGR-001 and EGR-002 say that it must be heard."""
        silent = departure(POD6, NODE6)
        assert source_findings([silent], [], translated=False) == []
        with pytest.raises(Blocked, match="EGR-002"):
            require_seen([departure(POD6, NODE6, POD6), silent], Family.IPV6)
        require_seen([departure(POD6, NODE6, POD6)], Family.IPV6)


def answer(
    source: str, target: object, peer: object, detail: str = "tcp"
) -> tuple[Cell, Observation]:
    probe = Probe(Protocol.TCP, target, 80)  # type: ignore[arg-type]
    outcome = Outcome.REACHED if peer else Outcome.TIMEOUT
    observation = Observation(probe, outcome, peer_seen=peer)  # type: ignore[arg-type]
    return Cell(source, "clusterIP", Family.of(probe.target), detail), observation


def test_what_comes_in_keeps_its_source() -> None:
    """EGR-011."""
    assert inbound_findings([answer("outside", POD4, OUTSIDE)], OUTSIDE) == []
    (found,) = inbound_findings([answer("outside", POD4, NODE4)], OUTSIDE)
    assert "the pod saw 10.243.0.3: something on the way masquerades" in found


class TestServiceSources:
    """PRX-005."""

    def judged(self, *answers: tuple[Cell, Observation]) -> list[str]:
        return masquerade_findings(
            "worker",
            sources_seen(answers),
            node_addresses=[NODE6],
            client=ip_address("2001:db8::a"),
            cluster_cidr="10.244.0.0/16",
        )

    def test_strangers_are_masqueraded(self) -> None:
        assert self.judged(answer("outside", POD6, NODE6)) == []

    def test_a_proxy_that_knows_one_family_only(self) -> None:
        """F06: from the node's own backend comes an answer, from the others none."""
        (found,) = self.judged(
            answer("outside", POD6, ip_address("2001:db8::a")), answer("outside", POD6, None)
        )
        assert found == (
            "tcp from outside (2001:db8::a) to the clusterIP via worker: backends saw 2001:db8::a, "
            "nothing (timeout), expected an address of worker (fd00:10:243::3): kube-proxy does "
            "not masquerade off-cluster IPv6 clients; its clusterCIDR is 10.244.0.0/16 (one range "
            "of each family is needed, flag --cluster-cidr)"
        )

    def test_pods_are_not(self) -> None:
        own = {"pod on worker": POD6}
        ranges = [ip_network("fd00:10:244::/56")]
        assert preserved_findings([answer("pod on worker", POD6, POD6)], own, ranges) == []
        # F03: the pool is not the cluster CIDR, so that kube-proxy takes pods for strangers.
        (found,) = preserved_findings([answer("pod on worker", POD6, NODE6)], own, ranges)
        assert found.startswith(
            "tcp from the pod on worker (fd00:10:244::5) to the clusterIP: the backend saw "
            "fd00:10:243::3: kube-proxy takes the pod for a stranger"
        )
