"""Judgements about Services, with the faults that must turn them red."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from helpers.kube import ApiError
from helpers.matrix import Cell, Matrix
from helpers.model import DualAddresses, Family, Protocol
from helpers.probes import Observation, Outcome, Probe
from helpers.readiness import Readiness, Stage, follow_findings, headless_findings
from helpers.service_changes import Kept, change_findings
from helpers.services import (
    EndpointSlice,
    cluster_ip,
    ready_addresses,
    refusal,
    servers_seen,
    slice_findings,
    spread_findings,
    stack_findings,
)
from helpers.verdicts import Blocked, Inconclusive
from helpers.views import PodView
from helpers.workloads import ServiceView

V4, V6 = Family.IPV4, Family.IPV6
RANGES = {V4: ip_network("10.96.0.0/16"), V6: ip_network("fd00:10:96::/112")}


def service(*cluster_ips: str, policy: str = "RequireDualStack", **spec: object) -> ServiceView:
    families = [Family.of(address).kubernetes for address in cluster_ips]
    return ServiceView.from_api(
        {
            "metadata": {"namespace": "ns", "name": "web"},
            "spec": {
                "clusterIP": cluster_ips[0] if cluster_ips else "",
                "clusterIPs": list(cluster_ips),
                "ipFamilies": families,
                "ipFamilyPolicy": policy,
                **spec,
            },
        }
    )


def pod(name: str, *addresses: str, ready: bool = True, deleting: bool = False) -> PodView:
    return PodView(
        namespace="ns",
        name=name,
        uid=name,
        node="worker",
        phase="Running",
        ready=ready,
        deleting=deleting,
        host_network=False,
        pod_ip=addresses[0],
        pod_ips=addresses,
        host_ip=None,
        host_ips=(),
        labels={},
        annotations={},
        waiting=None,
    )


def slice_of(
    family: str, *addresses: str, name: str = "web-abc", ready: bool | None = True
) -> EndpointSlice:
    conditions = {} if ready is None else {"ready": ready}
    return EndpointSlice.from_api(
        {
            "metadata": {
                "namespace": "ns",
                "name": name,
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": family,
            "endpoints": [{"addresses": [a], "conditions": conditions} for a in addresses],
            "ports": [{"name": "tcp", "protocol": "TCP", "port": 8080}],
        }
    )


PODS = [
    pod("one", "10.244.0.1", "fd00:10:244::1"),
    pod("two", "10.244.0.2", "fd00:10:244::2"),
    pod("waits", "10.244.0.3", "fd00:10:244::3", ready=False),
    pod("goes", "10.244.0.4", "fd00:10:244::4", deleting=True),
]
SLICES = [
    slice_of("IPv4", "10.244.0.1", "10.244.0.2"),
    slice_of("IPv6", "fd00:10:244::1", "fd00:10:244::2", name="web-def"),
]


class TestSlices:
    """SVC-006."""

    @pytest.mark.parametrize("family", [V4, V6])
    def test_ready_pods_in_slices_of_both_families_are_good(self, family: Family) -> None:
        assert slice_findings("ns/web", (V4, V6), SLICES, PODS, family) == []

    def test_a_hand_made_slice_with_a_dead_address(self) -> None:
        planted = [*SLICES, slice_of("IPv6", "fd00:dead::1", name="by-hand")]
        assert slice_findings("ns/web", (V4, V6), planted, PODS, V4) == []
        (found,) = slice_findings("ns/web", (V4, V6), planted, PODS, V6)
        assert found == (
            "Service ns/web: fd00:dead::1 is ready in EndpointSlice by-hand, but no ready pod has "
            "it: clients over IPv6 are sent to a dead address; delete the slice if it was made by "
            "hand, else look at kube-controller-manager"
        )

    def test_a_ready_pod_that_is_in_no_slice(self) -> None:
        (found,) = slice_findings(
            "ns/web", (V4, V6), [SLICES[0], slice_of("IPv6", "fd00:10:244::1")], PODS, V6
        )
        assert "ready pod ns/two has fd00:10:244::2, which is in none of its 1 IPv6" in found

    def test_a_pod_that_is_not_ready_but_listed_as_ready(self) -> None:
        listed = slice_of("IPv4", "10.244.0.1", "10.244.0.2", "10.244.0.3")
        (found,) = slice_findings("ns/web", (V4, V6), [listed], PODS, V4)
        assert "10.244.0.3 is ready" in found

    def test_families_mixed_in_one_slice(self) -> None:
        mixed = slice_of("IPv4", "10.244.0.1", "10.244.0.2", "fd00:10:244::1")
        assert any("families are mixed" in f
                   for f in slice_findings("ns/web", (V4,), [mixed], PODS, V4))  # fmt: skip

    def test_a_slice_of_a_family_that_the_service_has_not(self) -> None:
        found = slice_findings("ns/web", (V4,), SLICES, PODS, V6)
        assert found == [
            "Service ns/web is IPv4 only, but EndpointSlice ns/web-def of addressType IPv6 is "
            "labelled for it: delete the slice"
        ]

    def test_an_unset_condition_means_ready(self) -> None:
        assert ready_addresses([slice_of("IPv4", "10.244.0.1", ready=None)], V4) == {
            ip_address("10.244.0.1")
        }


def stage(
    what: str, slices: list[EndpointSlice], followed: dict[Family, float] | None = None
) -> Stage:
    return Stage(what, tuple(PODS), tuple(slices), followed or {}, followed is not None)


class TestReadiness:
    """SVC-006 and SVC-005 over the whole way of two pods."""

    def seen(self, *stages: Stage) -> Readiness:
        return Readiness("ns/web", (V4, V6), stages, {}, {})

    def test_both_families_follow_together(self) -> None:
        seen = self.seen(stage("one pod not ready", SLICES, {V4: 0.2, V6: 0.4}))
        assert follow_findings(seen, V4) == []
        assert follow_findings(seen, V6) == []

    def test_one_family_never_follows(self) -> None:
        late = slice_of("IPv6", "fd00:10:244::1", "fd00:10:244::2", "fd00:10:244::3")
        seen = self.seen(stage("one pod not ready", [SLICES[0], late], {V4: 0.2}))
        assert follow_findings(seen, V4) == []
        (found,) = follow_findings(seen, V6)
        assert found.startswith("one pod not ready: Service ns/web: fd00:10:244::3 is ready in")

    def test_one_family_follows_late(self) -> None:
        seen = self.seen(stage("ready again", SLICES, {V4: 0.2, V6: 7.0}))
        assert follow_findings(seen, V4) == []
        (found,) = follow_findings(seen, V6)
        assert found.startswith(
            "ready again: IPv6 EndpointSlices of Service ns/web followed 6.8 s after those of IPv4"
        )

    def test_a_family_that_the_cluster_gives_no_service(self) -> None:
        with pytest.raises(Blocked, match="CFG-004"):
            follow_findings(Readiness("ns/web", (V4,), (), {}, {}), V6)
        with pytest.raises(Blocked, match="CFG-004"):
            cluster_ip(service("10.96.0.5", policy="PreferDualStack"), V6)

    def test_a_pod_that_is_not_ready_in_the_headless_name(self) -> None:
        raw = {
            "client": "pod on worker",
            "name": "web.ns.svc.cluster.local.",
            "transport": "udp",
            "wanted": ["10.244.0.1"],
            "code": "NOERROR",
        }
        seen = Readiness.from_json(
            {
                "service": "ns/web",
                "families": ["ipv4", "ipv6"],
                "stages": [],
                "names": [
                    {**raw, "record": "A", "records": ["10.244.0.1", "10.244.0.2"]},
                    {**raw, "record": "AAAA", "wanted": ["fd00::1"], "records": ["fd00::1"]},
                ],
            }
        )
        assert headless_findings(seen, V6) == []
        (found,) = headless_findings(seen, V4)
        assert "is answered 10.244.0.1, 10.244.0.2, expected 10.244.0.1" in found


class TestStack:
    """SVC-001, SVC-002, SVC-004."""

    def test_as_asked(self) -> None:
        made = service("10.96.0.5", "fd00:10:96::5")
        assert (
            stack_findings(
                made, asked="x", policy="RequireDualStack", families=[V4, V6], ranges=RANGES
            )
            == []
        )

    def test_ranges_of_the_api_server_in_the_other_order(self) -> None:
        made = service("fd00:10:96::5", policy="SingleStack")
        found = stack_findings(
            made, asked="Service without family fields in a cluster declared ipv4-primary",
            policy="SingleStack", families=[V4], ranges=RANGES,
        )  # fmt: skip
        assert found == [
            "Service without family fields in a cluster declared ipv4-primary: ipFamilies is "
            "[IPv6], expected [IPv4]: the order comes from the request, else from "
            "--service-cluster-ip-range of kube-apiserver",
            "Service without family fields in a cluster declared ipv4-primary: clusterIPs is "
            "[fd00:10:96::5], expected one address of each of [IPv4] in this order",
        ]

    def test_a_cluster_with_one_service_range(self) -> None:
        error = ApiError(422, "Invalid", "spec.ipFamilies[0]: not configured on this cluster")
        assert refusal("Service with ipFamilies [IPv6]", error, [RANGES[V4]]) == (
            "Service with ipFamilies [IPv6]: the API refused (spec.ipFamilies[0]: not configured "
            "on this cluster); kube-apiserver has the service ranges 10.96.0.0/16: give "
            "--service-cluster-ip-range one range of each family"
        )

    def test_prefer_that_becomes_single_stack(self) -> None:
        made = service("10.96.0.5", policy="PreferDualStack")
        found = stack_findings(
            made, asked="x", policy="PreferDualStack", families=[V4, V6], ranges=RANGES
        )
        assert any("ipFamilies is [IPv4], expected [IPv4, IPv6]" in f for f in found)

    def test_an_address_outside_of_its_range(self) -> None:
        made = service("10.97.0.5", policy="SingleStack")
        (found,) = stack_findings(
            made, asked="x", policy="SingleStack", families=[V4], ranges=RANGES
        )
        assert "clusterIP 10.97.0.5 is outside of the service range 10.96.0.0/16" in found

    def test_a_change_that_exchanges_the_cluster_ip(self) -> None:
        before = service("10.96.0.5", policy="SingleStack")
        after = service("10.96.0.6", "fd00:10:96::5")
        (found,) = change_findings(before, after, [V4, V6])
        assert "clusterIP was 10.96.0.5, is now 10.96.0.6" in found

    def test_a_change_that_adds_nothing(self) -> None:
        before = service("10.96.0.5", policy="SingleStack")
        (found,) = change_findings(before, before, [V4, V6])
        assert "expected one of each of [IPv4, IPv6]" in found


def kept(first: Outcome, second: Outcome) -> Kept:
    cell = Cell("pod on worker", "clusterIP", V4, "tcp")
    return Kept(Matrix({cell: first}), Matrix({cell: second}))


class TestKept:
    """SVC-004: the way back to one family."""

    def test_only_the_first_answers(self) -> None:
        for silent in (Outcome.TIMEOUT, Outcome.REFUSED, Outcome.UNREACHABLE):
            assert kept(Outcome.REACHED, silent).holds()

    def test_a_removed_cluster_ip_that_goes_on_answering(self) -> None:
        assert not kept(Outcome.REACHED, Outcome.REACHED).holds()

    def test_a_kept_cluster_ip_that_stops(self) -> None:
        assert not kept(Outcome.TIMEOUT, Outcome.TIMEOUT).holds()

    def test_a_probe_that_did_not_run_proves_no_silence(self) -> None:
        with pytest.raises(Inconclusive):
            kept(Outcome.REACHED, Outcome.INCONCLUSIVE).holds()


def answered(
    source: str, server: str | None, outcome: Outcome = Outcome.REACHED
) -> tuple[Cell, Observation]:
    probe = Probe(Protocol.TCP, ip_address("10.96.0.5"), 80)
    return Cell(source, "clusterIP", V4, "tcp"), Observation(probe, outcome, server=server)


class TestSpread:
    """SVC-009."""

    BACKENDS = {"agent-a": "worker", "agent-b": "worker2"}  # noqa: RUF012

    def test_everyone_answered(self) -> None:
        seen = servers_seen([answered("pod", "agent-a"), answered("pod", "agent-b")])
        assert spread_findings(seen, self.BACKENDS, 40) == []

    def test_a_scheduler_that_pins_the_client(self) -> None:
        seen = servers_seen([answered("pod", "agent-a")] * 40)
        (found,) = spread_findings(seen, self.BACKENDS, 40)
        assert found.startswith(
            "tcp from pod: 40 requests never reached agent-b on worker2 (1 of 2 ready endpoints "
            "answered)"
        )

    def test_somebody_else_answers(self) -> None:
        seen = servers_seen([answered("pod", name) for name in ("agent-a", "agent-b", "alien")])
        (found,) = spread_findings(seen, self.BACKENDS, 40)
        assert "answered by alien" in found

    def test_a_probe_that_did_not_run(self) -> None:
        with pytest.raises(Inconclusive):
            servers_seen([answered("pod", None, Outcome.INCONCLUSIVE)])


def test_addresses_of_views_are_what_the_api_says() -> None:
    assert service("10.96.0.5").cluster_ips == DualAddresses.parse(["10.96.0.5"])
