"""One port of one Service in one family, as kube-proxy sees it on one node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from helpers.ipvs.kernel import RealServer
from helpers.model import Family, IPAddress
from helpers.proxy_tables import ingress_of, of_family, ours
from helpers.services import Endpoint, EndpointSlice

AFFINITY_SECONDS: Final = 10_800  # the API's default of sessionAffinityConfig.clientIP
TOPOLOGY_ANNOTATIONS: Final = (
    "service.kubernetes.io/topology-mode",
    "service.kubernetes.io/topology-aware-hints",
)


@dataclass(frozen=True, slots=True)
class PortEndpoint:
    """One endpoint of one Service port. ``local``: on the node that is looked at."""

    real: RealServer
    ready: bool
    serving: bool
    terminating: bool
    local: bool


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service in one family.

    Attributes:
        owner: ``namespace/name``, with the port's name if it has one.
        external_ips: externalIPs of the family.
        ingress: load balancer addresses that nodes serve themselves.
        affinity: seconds that a client stays with its endpoint; None: it does not.
        outside: whether anything but the clusterIP leads to it.
        internal_local, external_local: the traffic policies.
        hinted: endpoints are chosen by zone or node; which ones, only kube-proxy knows.
    """

    owner: str
    protocol: str
    number: int
    node_port: int | None
    cluster_ips: tuple[IPAddress, ...]
    external_ips: tuple[IPAddress, ...]
    ingress: tuple[IPAddress, ...]
    source_ranges: tuple[str, ...]
    affinity: int | None
    outside: bool
    internal_local: bool
    external_local: bool
    health_port: int | None
    hinted: bool
    endpoints: tuple[PortEndpoint, ...]

    def backends(self, *, local_only: bool) -> frozenset[RealServer]:
        """Endpoints that a virtual server of this port must have.

        A policy Local asks for the node's own endpoints. Where there are none, ipvs takes all
        endpoints of a Service that is open to the outside (kubernetes#97081), else none.

        Source: pkg/proxy/topology.go, pkg/proxy/ipvs (1.36).
        """
        everywhere = self.outside or not self.internal_local
        cluster = _usable(self.endpoints) if everywhere else frozenset()
        if not local_only:
            return cluster
        return _usable(e for e in self.endpoints if e.local) or cluster


def _usable(endpoints: Iterable[PortEndpoint]) -> frozenset[RealServer]:
    """Ready ones; if there are none, those that still serve while they end (KEP-1669)."""
    every = list(endpoints)
    ready = frozenset(e.real for e in every if e.ready)
    return ready or frozenset(e.real for e in every if e.serving and e.terminating)


def service_ports(
    services: Iterable[Mapping[str, Any]],
    slices: Iterable[EndpointSlice],
    family: Family,
    node: str,
) -> Iterator[ServicePort]:
    """Every port of every Service that kube-proxy serves in this family.

    Args:
        services: Services as the API has them.
        slices: all EndpointSlices; those of the other family are left out.
        node: name of the node that is looked at.
    """
    of_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for one in slices:
        if one.of(family):
            of_service.setdefault((one.namespace, one.service), []).append(one)
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        if not ours(meta, spec):
            continue
        if not of_family(spec.get("clusterIPs") or [spec["clusterIP"]], family):
            continue  # a single-stack Service has nothing in the other family, not even NodePorts
        mine = of_service.get((meta["namespace"], meta["name"]), [])
        for port in spec.get("ports") or []:
            yield _port(service, port, mine, family, node)


def _port(
    service: Mapping[str, Any],
    port: Mapping[str, Any],
    slices: Sequence[EndpointSlice],
    family: Family,
    node: str,
) -> ServicePort:
    meta, spec = service["metadata"], service["spec"]
    name = port.get("name") or ""
    kind = spec.get("type", "ClusterIP")
    outside = kind in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    external_local = outside and spec.get("externalTrafficPolicy") == "Local"
    ranges = spec.get("loadBalancerSourceRanges") or []
    annotations = meta.get("annotations") or {}
    return ServicePort(
        owner=f"{meta['namespace']}/{meta['name']}" + (f":{name}" if name else ""),
        protocol=str(port.get("protocol") or "TCP").lower(),
        number=int(port["port"]),
        node_port=port.get("nodePort") or None,
        cluster_ips=_addresses(spec.get("clusterIPs") or [spec["clusterIP"]], family),
        external_ips=_addresses(spec.get("externalIPs") or [], family),
        ingress=_addresses(ingress_of(service), family),
        source_ranges=tuple(cidr for cidr in ranges if Family.of(cidr) is family),
        affinity=_affinity(spec),
        outside=outside,
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=external_local,
        health_port=spec.get("healthCheckNodePort") or None if external_local else None,
        hinted=bool(spec.get("trafficDistribution"))
        or any(annotation in annotations for annotation in TOPOLOGY_ANNOTATIONS),
        endpoints=tuple(_endpoints(slices, name, node)),
    )


def _addresses(values: Iterable[str], family: Family) -> tuple[IPAddress, ...]:
    return tuple(map(ip_address, of_family(values, family)))


def _affinity(spec: Mapping[str, Any]) -> int | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client.get("timeoutSeconds") or AFFINITY_SECONDS)


def _endpoints(slices: Iterable[EndpointSlice], port: str, node: str) -> Iterator[PortEndpoint]:
    for one in slices:
        _, number = one.ports.get(port, ("", None))
        if number is None:
            continue
        for endpoint in one.endpoints:
            if endpoint.addresses:
                yield _endpoint(endpoint, number, node)


def _endpoint(endpoint: Endpoint, port: int, node: str) -> PortEndpoint:
    return PortEndpoint(
        real=RealServer(endpoint.addresses[0], port),
        ready=endpoint.ready,
        serving=endpoint.serving,
        terminating=endpoint.terminating,
        local=endpoint.node == node,
    )
