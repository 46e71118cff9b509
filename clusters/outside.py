"""The host outside of the cluster: "the internet" of the tests, on the network of the nodes.

It is a container whose loopback holds documentation addresses of both families (RFC 5737, RFC
3849) and which runs the probe agent. The nodes' default routes lead to it, so that a node without
a default route has no way out, as on a real network. It does not forward: a packet for another
pod or node that comes here because a node lacks the route to it must be lost, or the missing
route would go unnoticed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from clusters.api import Outside
from clusters.commands import run
from clusters.errors import ClusterError
from clusters.spec import ClusterSpec
from helpers.agents import archive
from helpers.agents.transport import REMOTE_AGENT
from helpers.kube import Kube
from helpers.model import FAMILIES, DualAddresses, Family, IPAddress, IPNetwork
from helpers.views import NodeView

AGENT_PORT: Final = 8080
CLUSTER_LABEL: Final = "dsc.cluster"  # Docker label of everything that belongs to a cluster
DEVICE: Final = "eth0"
ROUTE_PROTOCOL: Final = 250  # marks our routes to pods, so that stale ones are found
HOST_NUMBER: Final = 10  # of the addresses taken from the documentation networks
OWN_NUMBER: Final = 250  # of its address on the nodes' network: kind's nodes begin at 2
_ADDRESS_FLAGS: Final = {Family.IPV4: "--ip", Family.IPV6: "--ip6"}
SYSCTLS: Final = (
    "net.ipv4.ip_forward=0",
    "net.ipv6.conf.all.forwarding=0",
    "net.ipv6.conf.all.disable_ipv6=0",
    "net.ipv4.conf.all.send_redirects=0",
    # Addresses on the loopback are reached through eth0: no reverse path filter may object.
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)


@dataclass(frozen=True, slots=True, order=True)
class PodRoute:
    """Way back to a block of pod addresses: via the node that owns it."""

    block: IPNetwork
    via: IPAddress


def container_name(cluster: str) -> str:
    return f"{cluster}-outside"


def internet_addresses(spec: ClusterSpec) -> DualAddresses:
    """One address from each of the profile's documentation networks, families in its order."""
    networks = [network for family in spec.families for network in spec.internet.of(family)]
    return DualAddresses(tuple(network[HOST_NUMBER] for network in networks))


def node_network_addresses(spec: ClusterSpec) -> DualAddresses:
    """The outside host's own addresses: fixed, so that a restart does not change them."""
    networks = [spec.node_cidr(family) for family in spec.families]
    last_usable = -2  # the last one of IPv4 is for broadcast
    return DualAddresses(
        tuple(
            n[OWN_NUMBER] if n.num_addresses > OWN_NUMBER + 1 else n[last_usable] for n in networks
        )
    )


def create(
    docker: tuple[str, ...], image: str, network: str, cluster: str, spec: ClusterSpec
) -> Outside:
    """Start the container and give it its addresses.

    Args:
        docker: argv prefix of the engine.
        image: has ``python3`` and ``ip``; the agent is copied into it.

    Raises:
        CommandFailedError: Docker refused.
    """
    host = Outside(
        container_name(cluster), docker, node_network_addresses(spec), internet_addresses(spec)
    )
    fixed = [part for family in FAMILIES for part in (_ADDRESS_FLAGS[family],
             str(host.addresses.require(family)))]  # fmt: skip
    sysctls = [part for setting in SYSCTLS for part in ("--sysctl", setting)]
    ports = [part for flag in ("--tcp", "--udp") for part in (flag, str(AGENT_PORT))]
    run([*docker, "create", "--name", host.container, "--hostname", "outside", "--network", network,
         *fixed, "--label", f"{CLUSTER_LABEL}={cluster}", "--cap-add", "NET_ADMIN",
         "--cap-add", "NET_RAW", "--init", *sysctls, "--entrypoint", "python3", image,
         REMOTE_AGENT, "serve", "--name", "outside", *ports], timeout=120)  # fmt: skip
    _copy_agent(host)
    run([*docker, "start", host.container])
    _configure(host)
    return host


def refresh_agent(host: Outside) -> bool:
    """Restart the outside host with the agent of this checkout; False when it has that already.

    Raises:
        CommandFailedError: the container is gone.
    """
    asked = [*host.docker, "exec", host.container, "sha256sum", REMOTE_AGENT]
    # No such file is another checkout's agent; no such container fails below, where it is copied.
    if run(asked, check=False).stdout.startswith(archive.digest()):
        return False
    _copy_agent(host)
    run([*host.docker, "restart", "--time", "0", host.container])
    _configure(host)
    return True


def _copy_agent(host: Outside) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / Path(REMOTE_AGENT).parent.name
        folder.mkdir()
        (folder / Path(REMOTE_AGENT).name).write_bytes(archive.archive())
        run([*host.docker, "cp", str(folder), f"{host.container}:/"])


def _configure(host: Outside) -> None:
    addresses = [f"address replace {a}/{a.max_prefixlen} dev lo" for a in host.internet.all]
    _ip_batch(host.docker, host.container, addresses)
    for family in FAMILIES:
        # No way out of here: an answer goes to a node or nowhere, never to a real network.
        for gateway in _default_gateways(host.docker, host.container, family):
            command = f"route delete default via {gateway}"
            _ip_batch(host.docker, host.container, [command])


def become_default_gateway(outside: Outside, nodes: Iterable[str]) -> None:
    """Lead the nodes' default routes of each family to the outside host.

    Call it again when a node's container was restarted: Docker sets its own default routes then.

    Args:
        nodes: names of containers.

    Raises:
        ClusterError: a node has another or no default route afterwards.
    """

    def redirect(node: str) -> None:
        for family in FAMILIES:
            gateway = outside.addresses.require(family)
            option = f"-{family.version}"
            change = ["ip", option, "route", "replace", "default", "via", str(gateway)]
            run([*outside.docker, "exec", node, *change, "dev", DEVICE])
            seen = _default_gateways(outside.docker, node, family)
            if seen != [gateway]:
                raise ClusterError(
                    f"{node} has default routes via {', '.join(map(str, seen)) or 'nothing'} for "
                    f"{family}, wanted {gateway}: look at `ip {option} route` in the node."
                )

    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(redirect, nodes))


def restart_node(outside: Outside, node: str) -> None:
    """Restart a node's container: every process on it ends, its addresses are given anew.

    Raises:
        CommandFailedError: it is no container of this engine.
        ClusterError: its default routes do not lead to the outside host afterwards.
    """
    run([*outside.docker, "restart", "--time", "2", node], timeout=120)
    become_default_gateway(outside, [node])


def sync_routes(outside: Outside, kube: Kube) -> tuple[PodRoute, ...]:
    """Give the outside host a route to every block of pod addresses, via the owner node.

    A pod's address reaches the outside unchanged where Calico does not translate it (IPv6 by
    default); the answer must find its way back. Blocks come into being with the first pod of a
    node: call it before probing. Routes of blocks that are gone are removed.

    Returns:
        the routes that are there now.

    Raises:
        KubeError: the cluster does not answer.
        CommandFailedError: the container is gone.
    """
    wanted = pod_routes(kube.calico("BlockAffinity"), kube.nodes())
    present = {route for family in FAMILIES for route in _pod_routes_present(outside, family)}
    kept = {route.block for route in wanted}
    commands = [
        f"route delete {route.block} via {route.via} proto {ROUTE_PROTOCOL}"
        for route in sorted(present - set(wanted), key=str)
        if route.block not in kept
    ]
    commands += [
        f"route replace {route.block} via {route.via} dev {DEVICE} proto {ROUTE_PROTOCOL}"
        for route in wanted
        if route not in present
    ]
    if commands:
        _ip_batch(outside.docker, outside.container, commands)
    return wanted


def pod_routes(
    affinities: Iterable[Mapping[str, Any]], nodes: Iterable[NodeView]
) -> tuple[PodRoute, ...]:
    """Routes to all blocks whose node is known and has an address of the block's family."""
    addresses = {node.name: node.internal_ips for node in nodes}
    routes = []
    for affinity in affinities:
        spec = affinity["spec"]
        block = ip_network(spec["cidr"])
        owner = addresses.get(spec["node"])
        via = owner.of(Family.of(block)) if owner else None
        if via is not None and str(spec.get("deleted", "false")).lower() != "true":
            routes.append(PodRoute(block, via))
    return tuple(sorted(routes, key=lambda route: (route.block.version, route.block)))


def _pod_routes_present(outside: Outside, family: Family) -> Iterable[PodRoute]:
    listed = _ip_json(outside.docker, outside.container, family, "proto", str(ROUTE_PROTOCOL))
    for route in listed:
        if "gateway" in route:
            yield PodRoute(ip_network(route["dst"]), ip_address(route["gateway"]))


def _default_gateways(docker: tuple[str, ...], container: str, family: Family) -> list[IPAddress]:
    routes = _ip_json(docker, container, family, "default")
    return [ip_address(route["gateway"]) for route in routes if "gateway" in route]


def _ip_json(
    docker: tuple[str, ...], container: str, family: Family, *selector: str
) -> list[dict[str, Any]]:
    command = ["ip", "-json", f"-{family.version}", "route", "show", *selector]
    text = run([*docker, "exec", container, *command]).stdout
    routes: list[dict[str, Any]] = json.loads(text or "[]")
    return routes


def _ip_batch(docker: tuple[str, ...], container: str, commands: Iterable[str]) -> None:
    text = "".join(f"{command}\n" for command in commands)
    run([*docker, "exec", "--interactive", container, "ip", "-batch", "-"], text_in=text)
