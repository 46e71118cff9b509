"""How the kernel of a node in ipvs mode differs from what the API asks for, as sentences.

Each finding has a key that is the same in two observations of the same difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from helpers.findings import listed
from helpers.ipvs.expected import INET, SETS, Expected, Promise, Settings, place, set_name
from helpers.ipvs.kernel import (
    DUMMY,
    Destination,
    KernelSet,
    KernelState,
    RealServer,
    Serving,
    VirtualServer,
)
from helpers.model import FAMILIES, Family, IPAddress

Finding = tuple[str, str, str]  # node, thing, what is wrong
Findings = dict[Finding, str]

NOT_FOLLOWING: Final = (
    "kube-proxy on {node} does not follow the API, or somebody else changed the kernel: look at "
    "its log and restart it"
)
# The kernel prints persistence in ticks; its clock makes one of these many in a second.
TICKS_PER_SECOND: Final = (100, 250, 300, 1000)
# What it prints for "the whole address": a netmask for IPv4, a prefix length for IPv6 (whose byte
# order was turned round or not).
WHOLE_ADDRESS: Final = {
    Family.IPV4: frozenset({"FFFFFFFF"}),
    Family.IPV6: frozenset({"00000080", "80000000"}),
}


def address_findings(node: str, state: KernelState, wanted: Expected) -> Findings:
    """PRX-001: kube-ipvs0 holds the Services' addresses of the family and nothing else."""
    kind = wanted.family.kubernetes
    fix = NOT_FOLLOWING.format(node=node)
    if state.bound is None:
        return {
            (
                node,
                DUMMY,
                "absent",
            ): f"ipvs on {node}: there is no interface {DUMMY}: {kind} addresses of "
            "Services are not local there, so that IPVS never sees their packets; "
            "kube-proxy does not run in ipvs mode, or the kernel lacks dummy interfaces"
        }
    found: Findings = {}
    held = {a for a in state.bound if Family.of(a) is wanted.family and not _own(a)}
    for address in sorted(wanted.bound.keys() - held, key=int):
        found[(node, str(address), "unbound")] = (
            f"ipvs on {node}: {address} of Service {wanted.bound[address]} is not on {DUMMY} "
            f"({kind}): packets to it are routed away instead of balanced; {fix}"
        )
    for address in sorted(held - wanted.bound.keys(), key=int):
        found[(node, str(address), "stale")] = (
            f"ipvs on {node}: {address} is on {DUMMY}, but no Service of the API has it ({kind}): "
            f"the node takes packets to it for its own; {fix}"
        )
    return found


def _own(address: IPAddress) -> bool:
    """The interface's own link-local address, which the kernel made."""
    return address.version == 6 and address.is_link_local


def server_findings(
    node: str, state: KernelState, wanted: Expected, settings: Settings
) -> Findings:
    """PRX-002: virtual servers of the family, their scheduler and their persistence."""
    found: Findings = {}
    fix = NOT_FOLLOWING.format(node=node)
    held = {s: serving for s, serving in state.servers.items() if s.family is wanted.family}
    for server in sorted(wanted.servers.keys() - held.keys(), key=str):
        found[(node, str(server), "missing")] = (
            f"ipvs on {node}: {place(wanted.servers[server], server)}: there is no virtual server "
            f"({wanted.family.kubernetes}); {fix}"
        )
    for server in sorted(held.keys() - wanted.servers.keys(), key=str):
        if not any(server.address in cidr for cidr in settings.excluded):
            found[(node, str(server), "stale")] = (
                f"ipvs on {node}: {server} is a virtual server that no Service of the API wants "
                f"({wanted.family.kubernetes}); {fix}"
            )
    for server in sorted(wanted.servers.keys() & held.keys(), key=str):
        promise = wanted.servers[server]
        for kind, wrong in _settings_wrong(held[server], promise, wanted):
            found[(node, str(server), kind)] = f"ipvs on {node}: {place(promise, server)}: {wrong}"
    return found


def _settings_wrong(
    serving: Serving, promise: Promise, wanted: Expected
) -> Iterator[tuple[str, str]]:
    if serving.scheduler != wanted.scheduler:
        yield (
            "scheduler",
            f"scheduler is {serving.scheduler}, kube-proxy's configuration says "
            f"{wanted.scheduler}: set ipvs.scheduler and restart it",
        )
    ticks, seconds = serving.ticks, promise.affinity
    if (ticks is None) != (seconds is None):
        is_, says = ("ClientIP" if one is not None else "None" for one in (ticks, seconds))
        yield (
            "persistence",
            f"clients are kept on one backend as if sessionAffinity were {is_}; the Service "
            f"says {says}",
        )
    elif ticks is not None and seconds is not None:
        if ticks not in {seconds * hertz for hertz in TICKS_PER_SECOND}:
            yield (
                "persistence",
                f"clients are kept on one backend for {ticks} ticks, which is "
                f"{seconds} s (sessionAffinityConfig) for no clock of a kernel",
            )
        if serving.mask not in WHOLE_ADDRESS[wanted.family]:
            yield (
                "mask",
                f"clients are told apart by mask {serving.mask} of their "
                f"{wanted.family.kubernetes} address, not by all of it",
            )


def backend_findings(
    node: str, state: KernelState, wanted: Expected, own: frozenset[IPAddress]
) -> Findings:
    """PRX-003: real servers of every virtual server; missing servers are left to PRX-002."""
    found: Findings = {}
    for server, promise in sorted(wanted.servers.items(), key=lambda item: str(item[0])):
        serving = state.servers.get(server)
        if serving is None or promise.backends is None:
            continue
        where = f"ipvs on {node}: {place(promise, server)}"
        for real in sorted(promise.backends - serving.real.keys(), key=str):
            found[(node, f"{server} {real}", "missing")] = (
                f"{where} has no real server {real}, which is a usable endpoint; "
                + NOT_FOLLOWING.format(node=node)
            )
        for real, destination in serving.real.items():
            if real in promise.backends:
                wrong = _destination_wrong(real, destination, own)
            else:
                wrong = _stranger(server, real, destination)
            if wrong:
                found[(node, f"{server} {real}", "backend")] = (
                    f"{where}: real server {real} {wrong}"
                )
    return found


def _destination_wrong(
    real: RealServer, destination: Destination, own: frozenset[IPAddress]
) -> str | None:
    if destination.weight != 1:
        return (
            f"has weight {destination.weight} instead of 1, although it is a usable endpoint: "
            "its share of the connections is wrong"
        )
    # Real servers with an address of the node itself are shown as Local.
    allowed = ("Masq", "Local") if real.address in own else ("Masq",)
    if destination.forward not in allowed:
        return f"is forwarded to as {destination.forward}, kube-proxy makes {listed(allowed)} only"
    return None


def _stranger(server: VirtualServer, real: RealServer, destination: Destination) -> str | None:
    """A real server that is no usable endpoint (any more)."""
    if Family.of(real.address) is not server.family:
        kind = Family.of(real.address).kubernetes
        return (
            f"is {kind}, the virtual server {server.family.kubernetes}: families are mixed, and "
            "what is sent there is lost"
        )
    # TCP connections may end in peace: weight 0, looked after once a minute (ipvs
    # graceful_termination). Datagrams have no end to wait for, and SCTP is not waited for.
    if server.protocol == "tcp" and destination.weight == 0:
        return None
    return (
        f"(weight {destination.weight}) is no usable endpoint of the Service (any more): clients "
        "are sent to it; compare the EndpointSlices, and look at the log of kube-proxy"
    )


def set_findings(node: str, state: KernelState, wanted: Mapping[Family, Expected]) -> Findings:
    """PRX-004: every set of one family has its twin, and each holds what its family asks for."""
    found: Findings = {}
    for base, kind in SETS.items():
        for family in FAMILIES:
            name, twin = set_name(base, family), set_name(base, family.other)
            held = state.sets.get(name)
            if held is None:
                beside = "is there" if twin in state.sets else "is not there either"
                found[(node, name, "absent")] = (
                    f"ipvs on {node}: {name}: there is no such ipset; its "
                    f"{family.other.kubernetes} twin {twin} {beside}: "
                    + NOT_FOLLOWING.format(node=node)
                )
                continue
            found |= _set_wrong(node, name, held, kind, wanted[family])
    return found


def _set_wrong(node: str, name: str, held: KernelSet, kind: str, wanted: Expected) -> Findings:
    inet = "" if kind == "bitmap:port" else INET[wanted.family]
    if (held.kind, held.family) != (kind, inet):
        return {
            (node, name, "type"): f"ipvs on {node}: {name} is {held.kind} {held.family}, expected "
            f"{kind} {inet}: delete it and restart kube-proxy"
        }
    found: Findings = {}
    entries = wanted.sets[name]
    for entry in sorted(entries.keys() - held.entries):
        found[(node, name, f"lacks {entry}")] = (
            f"ipvs on {node}: {entry} of Service {entries[entry]} is not in ipset {name} "
            f"({wanted.family.kubernetes}): its packets are masqueraded or filtered wrongly; "
            + NOT_FOLLOWING.format(node=node)
        )
    for entry in sorted(held.entries - entries.keys()):
        found[(node, name, f"stale {entry}")] = (
            f"ipvs on {node}: {entry} is in ipset {name}, but no Service of the API asks for it "
            f"({wanted.family.kubernetes}); {NOT_FOLLOWING.format(node=node)}"
        )
    return found


def sysctl_findings(node: str, state: KernelState, wanted: Mapping[str, str]) -> Findings:
    """PRX-003: kernel settings that kube-proxy made when it started, in force for both families."""
    return {
        (
            node,
            name,
            "sysctl",
        ): f"ipvs on {node}: {name.replace('/', '.')} is {state.sysctls.get(name)}, "
        f"ipvs mode needs {value}: kube-proxy sets it when it starts; restart it, and look for "
        "what else sets it"
        for name, value in wanted.items()
        if state.sysctls.get(name) != value
    }
