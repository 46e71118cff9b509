"""Docker networks of clusters: one each, with the profile's node networks of both families."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any, Final

from clusters.commands import Progress, output, run
from clusters.errors import ClusterError
from clusters.outside import CLUSTER_LABEL
from clusters.spec import ClusterSpec, SpecError
from helpers.model import FAMILIES, Family, IPNetwork

MTU: Final = 1500
CANDIDATES: Final = 64  # how far to look for a free network


def create(docker: tuple[str, ...], name: str, spec: ClusterSpec) -> None:
    """Make the network of a cluster.

    Raises:
        CommandFailedError: Docker refused.
    """
    subnets = [part for family in FAMILIES for part in ("--subnet", str(spec.node_cidr(family)))]
    run([*docker, "network", "create", "--driver", "bridge", "--ipv6", *subnets,
         "--label", f"{CLUSTER_LABEL}={name}",
         "--opt", f"com.docker.network.driver.mtu={MTU}", name])  # fmt: skip


def remove(docker: tuple[str, ...], name: str) -> None:
    """Remove the network of a cluster, if there is one.

    Raises:
        CommandFailedError: Docker refused.
    """
    label = f"label={CLUSTER_LABEL}={name}"
    listed = output([*docker, "network", "ls", "--quiet", "--filter", label])
    if listed:
        run([*docker, "network", "rm", *listed.split()])


def with_free_node_networks(
    spec: ClusterSpec, docker: tuple[str, ...], progress: Progress
) -> ClusterSpec:
    """The profile itself, or with other node networks where another network overlaps its own.

    Raises:
        ClusterError: all candidates are in use.
    """
    used = list(_used(docker))
    changes = {}
    for family in FAMILIES:
        wanted = spec.node_cidr(family)
        clash = _clash(wanted, used)
        if clash is None:
            continue
        free = next((c for c in _after(wanted) if _acceptable(spec, family, c, used)), None)
        if free is None:
            raise ClusterError(
                f"No free {family} network for the nodes beside {wanted}: remove unused Docker "
                f"networks (`docker network prune`) or choose one: --set node_cidrs.{family}=..."
            )
        progress(f"nodes get {free}: {wanted} overlaps {clash}, which is in use")
        changes[family.value] = str(free)
    if not changes:
        return spec
    return _with_networks(spec, changes)


def _with_networks(spec: ClusterSpec, changes: dict[str, str]) -> ClusterSpec:
    present = {family.value: str(spec.node_cidr(family)) for family in FAMILIES}
    return spec.changed(node_cidrs={**present, **changes})


def _acceptable(
    spec: ClusterSpec, family: Family, candidate: IPNetwork, used: Iterable[IPNetwork]
) -> bool:
    if _clash(candidate, used):
        return False
    try:
        _with_networks(spec, {family.value: str(candidate)})
    except SpecError:  # it overlaps another network of the profile
        return False
    return True


def _after(network: IPNetwork) -> Iterator[IPNetwork]:
    """Networks of the same size that follow, in order."""
    for step in range(1, CANDIDATES + 1):
        start = int(network.network_address) + step * network.num_addresses
        if start + network.num_addresses <= 2**network.max_prefixlen:
            yield type(network)((start, network.prefixlen))


def _clash(network: IPNetwork, used: Iterable[IPNetwork]) -> IPNetwork | None:
    return next((u for u in used if u.version == network.version and u.overlaps(network)), None)


def _used(docker: tuple[str, ...]) -> Iterator[IPNetwork]:
    """Networks that Docker has, and those that this network namespace has routes to."""
    identifiers = output([*docker, "network", "ls", "--quiet"]).split()
    inspected: list[dict[str, Any]] = json.loads(
        output([*docker, "network", "inspect", *identifiers])
    )
    for network in inspected:
        for pool in network["IPAM"]["Config"] or []:
            if pool.get("Subnet"):
                yield ip_network(pool["Subnet"], strict=False)
    for family in FAMILIES:
        routes = json.loads(output(["ip", "-json", f"-{family.version}", "route", "show"]) or "[]")
        for route in routes:
            if route["dst"] != "default":
                yield ip_network(route["dst"], strict=False)
