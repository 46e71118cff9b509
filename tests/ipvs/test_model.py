"""The ipvs model: what must hold for every cluster, and that every difference is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from helpers.ipvs.compare import (
    Findings,
    address_findings,
    backend_findings,
    server_findings,
    set_findings,
    sysctl_findings,
)
from helpers.ipvs.expected import SETS, NodeAddresses, Settings, expected_sysctls, set_name
from helpers.ipvs.kernel import Destination, KernelState, RealServer
from helpers.model import FAMILIES, Family
from helpers.services import EndpointSlice
from tests.ipvs.worlds import HERE, NODE, V4, V6, World, address, kernel_of, twin, worlds

EACH = pytest.mark.parametrize("family", FAMILIES)


def judged(world: World, kernel: KernelState) -> dict[str, Findings]:
    """Findings by requirement, of both families together."""
    wanted = {family: world.expected(family) for family in FAMILIES}
    found: dict[str, Findings] = {"PRX-004": set_findings(HERE, kernel, wanted)}
    for one in wanted.values():
        parts = {
            "PRX-001": address_findings(HERE, kernel, one),
            "PRX-002": server_findings(HERE, kernel, one, world.settings),
            "PRX-003": backend_findings(HERE, kernel, one, world.node.own),
        }
        for requirement, findings in parts.items():
            found.setdefault(requirement, {}).update(findings)
    return {requirement: findings for requirement, findings in found.items() if findings}


# -- what holds for every cluster -----------------------------------------------------------------


@given(worlds())
def test_a_kernel_that_follows_has_no_findings(world: World) -> None:
    assert judged(world, kernel_of(world)) == {}


@given(worlds())
def test_both_families_are_treated_alike(world: World) -> None:
    """Where a Service has both families, each holds the mirror image of the other."""
    both = [s for s in world.services if len(s["spec"]["ipFamilies"]) == 2]
    four, six = (replace(world, services=both).expected(family) for family in (V4, V6))
    assert {twin(a) for a in four.bound} == set(six.bound)
    mirrored = {
        (s.protocol, twin(s.address), s.port): {(twin(b.address), b.port) for b in p.backends or ()}
        for s, p in four.servers.items()
    }
    assert mirrored == {
        (s.protocol, s.address, s.port): {(b.address, b.port) for b in p.backends or ()}
        for s, p in six.servers.items()
    }
    for base in SETS:
        twins = four.sets[set_name(base, V4)], six.sets[set_name(base, V6)]
        assert len(twins[0]) == len(twins[1]), base


@given(worlds())
def test_nothing_crosses_families(world: World) -> None:
    for family in FAMILIES:
        wanted = world.expected(family)
        assert all(Family.of(a) is family for a in wanted.bound)
        for server, promise in wanted.servers.items():
            assert server.family is family
            assert all(Family.of(real.address) is family for real in promise.backends or ())


@given(worlds())
def test_a_family_that_a_service_has_not_holds_nothing_of_it(world: World) -> None:
    for service in world.services:
        for family in FAMILIES:
            if family.kubernetes not in service["spec"]["ipFamilies"]:
                wanted = replace(world, services=[service]).expected(family)
                assert not wanted.bound
                assert not wanted.servers
                assert not any(wanted.sets.values())


@given(worlds())
def test_the_order_of_families_changes_nothing_in_the_kernel(world: World) -> None:
    def turned(service: dict[str, object]) -> dict[str, object]:
        spec = dict(service["spec"])  # type: ignore[call-overload]
        spec["clusterIPs"] = spec["clusterIPs"][::-1]
        return {**service, "spec": {**spec, "clusterIP": spec["clusterIPs"][0]}}

    other = replace(world, services=[turned(s) for s in world.services])
    for family in FAMILIES:
        assert other.expected(family) == world.expected(family)


@given(worlds())
def test_policies_local_use_the_nodes_own_endpoints_where_it_has_some(world: World) -> None:
    own = {
        real.addresses[0]
        for one in world.slices
        for real in one.endpoints
        if real.node == HERE and (real.ready or real.serving)
    }
    for service in world.services:
        if service["spec"].get("internalTrafficPolicy") != "Local":
            continue
        for family in FAMILIES:
            wanted = replace(world, services=[service]).expected(family)
            for server, promise in wanted.servers.items():
                backends = {real.address for real in promise.backends or ()}
                if str(server.address) in service["spec"]["clusterIPs"] and backends & own:
                    assert backends <= own


# -- every difference is found --------------------------------------------------------------------

Fault = Callable[[World, KernelState, st.DataObject], tuple[KernelState, str]]


def without_address(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    held = sorted(a for f in FAMILIES for a in map(str, world.expected(f).bound))
    assume(held)
    gone = data.draw(st.sampled_from(held))
    return replace(kernel, bound=(kernel.bound or frozenset()) - {ip_address(gone)}), gone


def _server(kernel: KernelState, data: st.DataObject, *, with_backends: bool = False):  # type: ignore[no-untyped-def]
    servers = [s for s, serving in kernel.servers.items() if serving.real or not with_backends]
    assume(servers)
    return data.draw(st.sampled_from(sorted(servers, key=str)))


def without_server(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    gone = _server(kernel, data)
    servers = {s: serving for s, serving in kernel.servers.items() if s != gone}
    return replace(kernel, servers=servers), str(gone.address)


def other_scheduler(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    one = _server(kernel, data)
    changed = replace(kernel.servers[one], scheduler="sh")
    return replace(kernel, servers={**kernel.servers, one: changed}), "scheduler is sh"


def other_affinity(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    one = _server(kernel, data)
    serving = kernel.servers[one]
    changed = replace(serving, ticks=None if serving.ticks else 10_800 * 100, mask="FFFFFFFF")
    return replace(kernel, servers={**kernel.servers, one: changed}), "sessionAffinity"


def _with_real(
    kernel: KernelState, data: st.DataObject, change: Callable[..., dict[RealServer, Destination]]
) -> tuple[KernelState, str]:
    one = _server(kernel, data, with_backends=True)
    serving = kernel.servers[one]
    real = data.draw(st.sampled_from(sorted(serving.real, key=str)))
    changed = replace(serving, real=change(dict(serving.real), real))
    return replace(kernel, servers={**kernel.servers, one: changed}), str(real.port)


def without_backend(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    return _with_real(kernel, data, lambda real, one: {r: d for r, d in real.items() if r != one})


def alien_backend(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    def added(
        real: dict[RealServer, Destination], one: RealServer
    ) -> dict[RealServer, Destination]:
        alien = RealServer(twin(one.address), one.port)
        return {**real, alien: Destination("Tunnel", 1, 0)}

    kernel, _ = _with_real(kernel, data, added)
    return kernel, "families are mixed"


def drained_backend(
    world: World, kernel: KernelState, data: st.DataObject
) -> tuple[KernelState, str]:
    def weightless(
        real: dict[RealServer, Destination], one: RealServer
    ) -> dict[RealServer, Destination]:
        return {**real, one: replace(real[one], weight=0)}

    kernel, _ = _with_real(kernel, data, weightless)
    return kernel, "weight 0 instead of 1"


def _named_set(kernel: KernelState, data: st.DataObject, *, filled: bool) -> str:
    names = sorted(n for n, held in kernel.sets.items() if held.entries or not filled)
    assume(names)
    return data.draw(st.sampled_from(names))


def flushed_set(world: World, kernel: KernelState, data: st.DataObject) -> tuple[KernelState, str]:
    name = _named_set(kernel, data, filled=True)
    empty = replace(kernel.sets[name], entries=frozenset())
    return replace(kernel, sets={**kernel.sets, name: empty}), f"is not in ipset {name} ("


def absent_set(world: World, kernel: KernelState, data: st.DataObject) -> tuple[KernelState, str]:
    name = _named_set(kernel, data, filled=False)
    return replace(kernel, sets={n: s for n, s in kernel.sets.items() if n != name}), name


FAULTS: list[tuple[str, Fault]] = [
    ("PRX-001", without_address),
    ("PRX-002", without_server),
    ("PRX-002", other_scheduler),
    ("PRX-002", other_affinity),
    ("PRX-003", without_backend),
    ("PRX-003", alien_backend),
    ("PRX-003", drained_backend),
    ("PRX-004", flushed_set),
    ("PRX-004", absent_set),
]


@pytest.mark.parametrize(("requirement", "fault"), FAULTS, ids=[f.__name__ for _, f in FAULTS])
@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(world=worlds(), data=st.data())
def test_every_fault_is_found_by_its_requirement_alone(
    requirement: str, fault: Fault, world: World, data: st.DataObject
) -> None:
    kernel, says = fault(world, kernel_of(world), data)
    found = judged(world, kernel)
    assert set(found) == {requirement}
    assert any(says in text for text in found[requirement].values())
    assert all(text.startswith(f"ipvs on {HERE}: ") for text in found[requirement].values())


# -- single points --------------------------------------------------------------------------------


def test_stale_things_are_found() -> None:
    empty = World([], [], NODE, Settings())
    kernel = kernel_of(empty)
    full = kernel_of(_one_service())
    stale = replace(kernel, bound=full.bound, servers=full.servers, sets=full.sets)
    found = judged(empty, stale)
    assert set(found) == {"PRX-001", "PRX-002", "PRX-004"}
    texts = [text for findings in found.values() for text in findings.values()]
    assert "ipvs on here: fd00:0:0:60::1 is on kube-ipvs0, but" in " ".join(texts)


def test_excluded_networks_are_left_alone() -> None:
    full = kernel_of(_one_service())
    excluded = Settings.from_config({"ipvs": {"excludeCIDRs": ["10.0.0.0/8", "fd00::/16"]}})
    empty = World([], [], NODE, excluded)
    kernel = replace(kernel_of(empty), servers=full.servers)
    assert judged(empty, kernel) == {}


@EACH
def test_without_the_interface_nothing_else_is_said(family: Family) -> None:
    world = _one_service()
    kernel = replace(kernel_of(world), bound=None)
    (text,) = address_findings(HERE, kernel, world.expected(family)).values()
    assert f"{family.kubernetes} addresses of Services are not local there" in text


def test_weight_zero_is_for_leaving_tcp_endpoints_only() -> None:
    world = _one_service(protocols=("TCP", "UDP"))
    kernel = kernel_of(world)
    leaving = RealServer(address(V6, 244, 99), 8080)
    servers = {
        server: replace(serving, real={**serving.real, leaving: Destination("Masq", 0, 3)})
        for server, serving in kernel.servers.items()
        if server.family is V6
    }
    found = judged(world, replace(kernel, servers={**kernel.servers, **servers}))
    (texts,) = found.values()
    assert list(found) == ["PRX-003"]
    assert all(
        "/udp of Service" in text and "is no usable endpoint" in text for text in texts.values()
    )


def test_own_addresses_are_reached_without_translation() -> None:
    """The API server on the node itself: the kernel shows Local instead of Masq."""
    world = _one_service()
    kernel = kernel_of(world)
    local = {
        server: replace(
            serving, real={r: replace(d, forward="Local") for r, d in serving.real.items()}
        )
        for server, serving in kernel.servers.items()
    }
    changed = replace(kernel, servers=local)
    assert set(judged(world, changed)) == {"PRX-003"}
    node = replace(
        world.node, own=world.node.own | {r.address for s in local.values() for r in s.real}
    )
    assert judged(replace(world, node=node), changed) == {}


def test_node_ports_listen_where_they_must() -> None:
    every = NODE.node_port_addresses([], V6)
    assert every == {address(V6, 1, 1), address(V6, 1, 2)}  # no loopback, no link-local
    assert NODE.node_port_addresses(["10.1.0.0/16"], V6) == every  # a family that is not named
    assert NODE.node_port_addresses(["fd00:0:0:1::1/128"], V6) == {address(V6, 1, 1)}
    assert NODE.node_port_addresses(["fd00:9::/64"], V6) == frozenset()
    assert NODE.node_port_addresses(["primary"], V4) == {address(V4, 1, 1)}
    linked = NodeAddresses(HERE, frozenset([ip_address("169.254.1.1")]))
    assert linked.node_port_addresses([], V4) == linked.own


def test_names_are_cut_to_what_ipset_allows() -> None:
    assert set_name("KUBE-CLUSTER-IP", V6) == "KUBE-6-CLUSTER-IP"
    assert set_name("KUBE-LOAD-BALANCER-SOURCE-CIDR", V6) == "KUBE-6-LOAD-BALANCER-SOURCE-CID"
    assert set_name("KUBE-NODE-PORT-LOCAL-SCTP-HASH", V6) == "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"
    names = [set_name(base, family) for base in SETS for family in FAMILIES]
    assert len(set(names)) == len(names)


def test_sysctls() -> None:
    kernel = kernel_of(_one_service())
    wanted = expected_sysctls(Settings())
    assert sysctl_findings(HERE, kernel, wanted) == {}
    off = replace(kernel, sysctls={**kernel.sysctls, "net/ipv4/vs/conntrack": "0"})
    (text,) = sysctl_findings(HERE, off, wanted).values()
    assert "net.ipv4.vs.conntrack is 0, ipvs mode needs 1" in text
    assert len(expected_sysctls(Settings(strict_arp=True))) == len(wanted) + 2


def _one_service(protocols: tuple[str, ...] = ("TCP",)) -> World:
    ports = [{"name": p.lower(), "protocol": p, "port": 80} for p in protocols]
    ips = [str(address(family, 96, 1)) for family in FAMILIES]
    spec = {"clusterIP": ips[0], "clusterIPs": ips, "ports": ports}
    meta = {"namespace": "ns", "name": "web"}
    slices = [
        EndpointSlice.from_api(
            {
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": family.kubernetes,
                "ports": [{**port, "port": 8080} for port in ports],
                "endpoints": [{"addresses": [str(address(family, 244, 1))], "nodeName": "x"}],
            }
        )
        for family in FAMILIES
    ]
    return World([{"metadata": meta, "spec": spec}], slices, NODE, Settings())
