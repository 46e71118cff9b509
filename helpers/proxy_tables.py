"""What kube-proxy has put into a node's kernel, against what the API says it must be.

Modes nftables (KEP-3866: maps ``service-ips``, ``no-endpoint-services``, ``service-nodeports``,
``no-endpoint-nodeports`` and set ``nodeport-ips`` in ``table ip|ip6 kube-proxy``) and iptables
(chains KUBE-SERVICES, KUBE-EXTERNAL-SERVICES and KUBE-NODEPORTS). Pure functions; a node's agent
reads the text.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any, Final

from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.services import EndpointSlice
from helpers.waiting import NotSettled, eventually

TABLE: Final = {Family.IPV4: "ip", Family.IPV6: "ip6"}
# Services that kube-proxy leaves to somebody else (pkg/proxy: ShouldSkipService, informer filter).
NOT_OURS: Final = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")


@dataclass(frozen=True, slots=True, order=True)
class Door:
    """Where a Service can be knocked at: address, protocol, port; no address for a NodePort."""

    address: str | None
    protocol: str
    port: int

    def __str__(self) -> str:
        host = "NodePort" if self.address is None else self.address
        host = f"[{host}]" if ":" in host else host
        return f"{host}{' ' if self.address is None else ':'}{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class ProxyTable:
    """Doors in one node's kernel for one family.

    Attributes:
        open: doors that lead to endpoints.
        shut: doors that answer with a refusal, because their Service has no endpoints.
        node_addresses: where NodePorts listen; None: on every local address.
    """

    open: frozenset[Door]
    shut: frozenset[Door]
    node_addresses: frozenset[IPAddress] | None = None

    @property
    def doors(self) -> frozenset[Door]:
        return self.open | self.shut


# -- reading --------------------------------------------------------------------------------------


def read_commands(mode: str, family: Family) -> list[list[str]]:
    """Commands whose outputs, in this order, ``parse_tables`` takes.

    Raises:
        ValueError: the mode keeps no tables (ipvs).
    """
    if mode == "nftables":
        return [["nft", "-j", "list", "table", TABLE[family], "kube-proxy"]]
    if mode == "iptables":
        program = "iptables-save" if family is Family.IPV4 else "ip6tables-save"
        return [[program, "-t", "nat"], [program, "-t", "filter"]]
    raise ValueError(f"kube-proxy in {mode} mode keeps no tables")


def parse_tables(mode: str, outputs: Sequence[str]) -> ProxyTable:
    """What the ``read_commands`` of a mode printed."""
    if mode == "nftables":
        return _parse_nftables(outputs[0])
    return _parse_iptables(outputs[0], outputs[1])


def _parse_nftables(text: str) -> ProxyTable:
    held: dict[str, list[Any]] = {}
    for item in json.loads(text)["nftables"]:
        for kind in ("map", "set"):
            if kind in item:
                held[item[kind]["name"]] = item[kind].get("elem", [])

    def doors(name: str, *, addressed: bool) -> set[Door]:
        return {_nft_door(element[0], addressed=addressed) for element in held.get(name, [])}

    listening = held.get("nodeport-ips")
    return ProxyTable(
        open=frozenset(
            doors("service-ips", addressed=True) | doors("service-nodeports", addressed=False)
        ),
        shut=frozenset(
            doors("no-endpoint-services", addressed=True)
            | doors("no-endpoint-nodeports", addressed=False)
        ),
        node_addresses=None
        if listening is None
        else frozenset(ip_address(_nft_value(element)) for element in listening),
    )


def _nft_value(element: Any) -> Any:
    """An element, with or without a comment around it."""
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def _nft_door(key: Any, *, addressed: bool) -> Door:
    parts = _nft_value(key)["concat"]
    address = str(ip_address(parts[0])) if addressed else None
    protocol, port = parts[-2:]
    return Door(address, str(protocol), int(port))


def _parse_iptables(nat: str, filtered: str) -> ProxyTable:
    opened, shut = set(), set()
    listening: set[IPAddress] = set()
    for chain, options in (*_rules(nat), *_rules(filtered)):
        if chain not in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"):
            continue
        if "--dport" not in options:
            continue
        where = options.get("-d")
        if chain == "KUBE-NODEPORTS" and where:
            # A rule of its own for the loopback addresses; the rest is for every local address.
            listening.add(ip_network(where).network_address)
            where = None
        address = str(ip_network(where).network_address) if where else None
        door = Door(address, options["-p"], int(options["--dport"]))
        if options["-j"] in ("REJECT", "DROP"):
            shut.add(door)
        elif options["-j"].startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-")):
            opened.add(door)
    return ProxyTable(
        frozenset(opened),
        frozenset(shut),
        frozenset(listening) if any(a.version == 6 for a in listening) else None,
    )


def _rules(text: str) -> Iterable[tuple[str, dict[str, str]]]:
    for line in text.splitlines():
        if line.startswith("-A KUBE-"):
            words = shlex.split(line)
            yield words[1], dict(pairwise(words))


# -- expecting ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """A door that the API promises.

    Attributes:
        owner: ``namespace/name`` of the Service, with the port's name.
        open: it must lead to endpoints (True), refuse (False), or either (None: a policy Local
            decides by the node's own endpoints, which SVC-011 judges).
    """

    owner: str
    open: bool | None


def promised(
    services: Iterable[Mapping[str, Any]], slices: Iterable[EndpointSlice], family: Family
) -> dict[Door, Promise]:
    """Doors that every node must have for the Services of the API, in one family."""
    of_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for one in slices:
        if one.of(family):
            of_service.setdefault((one.namespace, one.service), []).append(one)
    found: dict[Door, Promise] = {}
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        if not ours(meta, spec):
            continue
        name = (meta["namespace"], meta["name"])
        for port in spec.get("ports") or []:
            found |= _of_port(service, port, of_service.get(name, []), family)
    return found


def ours(meta: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    if any(label in (meta.get("labels") or {}) for label in NOT_OURS):
        return False
    return spec.get("clusterIP") not in (None, "", "None") and spec.get("type") != "ExternalName"


def _of_port(
    service: Mapping[str, Any],
    port: Mapping[str, Any],
    slices: Sequence[EndpointSlice],
    family: Family,
) -> dict[Door, Promise]:
    spec, meta = service["spec"], service["metadata"]
    cluster_ips = of_family(spec.get("clusterIPs") or [spec["clusterIP"]], family)
    if not cluster_ips:
        return {}  # NodePorts of a single-stack Service exist in its own family only
    owner = f"{meta['namespace']}/{meta['name']}" + (f":{port['name']}" if port.get("name") else "")
    protocol, number = str(port.get("protocol") or "TCP").lower(), int(port["port"])
    usable = _has_endpoints(slices, port.get("name") or "")
    inside: bool | None = usable
    outside: bool | None = usable
    if usable and spec.get("internalTrafficPolicy") == "Local":
        inside = None
    if usable and spec.get("externalTrafficPolicy") == "Local":
        outside = None
    found = {Door(ip, protocol, number): Promise(owner, inside) for ip in cluster_ips}
    for ip in of_family([*(spec.get("externalIPs") or []), *ingress_of(service)], family):
        found[Door(ip, protocol, number)] = Promise(owner, outside)
    if port.get("nodePort"):
        found[Door(None, protocol, int(port["nodePort"]))] = Promise(owner, outside)
    return found


def _has_endpoints(slices: Iterable[EndpointSlice], port: str) -> bool:
    """Ready endpoints, else those that still serve while they terminate (KEP-1669)."""
    endpoints = [e for one in slices if port in one.ports for e in one.endpoints]
    return any(e.ready or (e.serving and e.terminating) for e in endpoints)


def ingress_of(service: Mapping[str, Any]) -> list[str]:
    status = (service.get("status") or {}).get("loadBalancer") or {}
    return [
        entry["ip"]
        for entry in status.get("ingress") or []
        # Proxy mode means that the balancer delivers to the NodePort (KEP-1860).
        if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP"
    ]


def of_family(addresses: Iterable[str], family: Family) -> list[str]:
    return [str(ip_address(a)) for a in addresses if Family.of(a) is family]


def listening_addresses(
    setting: Sequence[str] | None, primary: IPAddress | None, local: Iterable[IPAddress]
) -> frozenset[IPAddress] | None:
    """Addresses of one family that NodePorts must listen on in nftables mode.

    Args:
        setting: kube-proxy's nodePortAddresses; nothing means ``primary`` there (KEP-3866).
        primary: the node's InternalIP of the family.
        local: all its addresses of the family.

    Returns:
        None when the setting names every address: the kernel then asks no list.
    """
    if not setting or list(setting) == ["primary"]:
        return frozenset([primary] if primary else [])
    networks = [ip_network(cidr) for cidr in setting if cidr != "primary"]
    mine = [n for n in networks if primary is None or n.version == primary.version]
    # A family that the setting does not name listens everywhere (pkg/proxy/util/nodeport_addresses,
    # seen on Kubernetes 1.36): to close it, name a network that no node is in.
    if not mine or any(network.prefixlen == 0 for network in mine):
        return None
    return frozenset(
        a
        for a in local
        if not a.is_loopback and any(n.version == a.version and a in n for n in mine)
    )


# -- judging --------------------------------------------------------------------------------------

Finding = tuple[str, str, str]  # node, door or set, what is wrong: equal in two observations


@dataclass(frozen=True, slots=True)
class NodeRules:
    """One node's table of one family, with what its NodePorts must listen on."""

    node: str
    mode: str
    table: ProxyTable
    listening: frozenset[IPAddress] | None = None
    judged_listening: bool = field(default=False)


def table_findings(
    rules: NodeRules, promises: Mapping[Door, Promise], family: Family
) -> dict[Finding, str]:
    """PRX-007: how one node's rules differ from the API, as sentences by a stable key."""
    found: dict[Finding, str] = {}
    node, table = rules.node, rules.table
    where = f"{family.kubernetes} {rules.mode} rules of {node}"
    for door in sorted(promises.keys() - table.doors, key=str):
        found[(node, str(door), "missing")] = (
            f"{where}: no rule for {door} of Service {promises[door].owner}: kube-proxy on {node} "
            f"does not follow the API; look at its log and restart it"
        )
    for door in sorted(table.doors - promises.keys(), key=str):
        found[(node, str(door), "stale")] = (
            f"{where}: {door} is there, but no Service of the API has it any more: kube-proxy on "
            f"{node} does not follow the API; look at its log and restart it"
        )
    for door, promise in sorted(promises.items(), key=str):
        is_open = door in table.open
        if door in table.doors and promise.open is not None and promise.open is not is_open:
            has = "ready endpoints" if promise.open else "no endpoints"
            does = "leads to endpoints" if is_open else "refuses"
            found[(node, str(door), "endpoints")] = (
                f"{where}: {door} of Service {promise.owner} {does}, but the API has {has} for it"
            )
    return found | _listening_findings(rules, family)


def _listening_findings(rules: NodeRules, family: Family) -> dict[Finding, str]:
    found: dict[Finding, str] = {}
    node, seen = rules.node, rules.table.node_addresses
    where = f"{family.kubernetes} {rules.mode} rules of {node}"
    loopback = [a for a in seen or () if a.is_loopback]
    if loopback and (family is Family.IPV6 or rules.mode == "nftables"):
        found[(node, "nodeport-ips", "loopback")] = (
            f"{where}: NodePorts listen on {listed(loopback)}: never on loopback (KEP-3866)"
        )
    if rules.judged_listening and seen != rules.listening:
        is_, must = (
            "every address" if a is None else listed(sorted(map(str, a)))
            for a in (seen, rules.listening)
        )
        found[(node, "nodeport-ips", "addresses")] = (
            f"{where}: NodePorts listen on {is_}, expected {must}: compare nodePortAddresses of "
            "kube-proxy with the node's InternalIPs"
        )
    return found


def lasting(observe: Callable[[], Mapping[Finding, str]], *, within: float, what: str) -> list[str]:
    """What is wrong now and is still wrong after ``within`` seconds, looked at all the while.

    Services come and go while this is read, so that the newest of them is always a finding; each
    difference has its time to vanish.

    Raises:
        NotSettled: the last one vanished too late.
    """
    pending: dict[Finding, str] | None = None

    def look() -> Mapping[Finding, str]:
        nonlocal pending
        now = observe()
        known = now.keys() if pending is None else pending.keys() & now.keys()
        pending = {key: now[key] for key in known}
        return pending

    try:
        eventually(
            look,
            lambda found: not found,
            within=within,
            describe=lambda found: f"{len(found)} differences",
            what=what,
        )
    except NotSettled:
        if not pending:
            raise
    return list((pending or {}).values())
