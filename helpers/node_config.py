"""Whether the nodes themselves are dual-stack (CFG-005, CFG-009, CFG-010, CFG-012).

Pure judgements over the API's view of nodes and their observed network state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from helpers.calico import ADDRESS_ANNOTATIONS, NodeNetwork
from helpers.findings import listed
from helpers.model import Family, IPAddress
from helpers.netstate import CALICO_TUNNELS, NetState
from helpers.views import NodeView

# calico-node's variable for its BGP address in each family.
ADDRESS_VARIABLE: Final = {Family.IPV4: "IP", Family.IPV6: "IP6"}


def internal_ip_findings(
    nodes: Iterable[NodeView], family: Family, order: Sequence[Family]
) -> list[str]:
    """CFG-005: one InternalIP of the family on each node, at its place in the cluster's order.

    Args:
        order: families of the cluster, primary first.
    """
    found = []
    for node in nodes:
        addresses = node.internal_ips
        mine = [a for a in addresses.all if Family.of(a) is family]
        where = f"node {node.name}"
        if len(mine) != 1:
            found.append(
                f"{where} registers {len(mine)} {family.kubernetes} InternalIPs (all: "
                f"{listed(addresses.all)}), must be exactly 1: give its kubelet --node-ip with "
                "one address of each family; until then hostNetwork pods on it are single-stack"
            )
            continue
        if mine[0].is_link_local:
            found.append(
                f"{where} registers the link-local address {mine[0]}, which other nodes cannot "
                "reach: give its kubelet --node-ip with a global or unique local address"
            )
        if set(addresses.families) == set(order) and addresses.families != tuple(order):
            found.append(
                f"{where} lists its InternalIPs as {listed(addresses.all)}, but the cluster is "
                f"{order[0].kubernetes}-primary: correct the order of its kubelet's --node-ip"
            )
    return found


def tunnel_findings(
    states: Mapping[str, NetState], addresses: Mapping[str, IPAddress]
) -> list[str]:
    """CFG-009: no node reaches another node's own address through a tunnel of Calico.

    Args:
        states: network state of each node.
        addresses: InternalIP of each node in one family.
    """
    found = []
    for source, state in states.items():
        for target, address in addresses.items():
            if target == source:
                continue
            route = state.lookup(address)
            if route is None:
                found.append(
                    f"{source} has no route to {target} ({address}): nodes need a route to each "
                    "other's InternalIP in both families"
                )
                continue
            tunnels = sorted(h.device for h in route.hops if h.device in CALICO_TUNNELS)
            if tunnels:
                found.append(
                    f"{source} reaches {target} ({address}) through {listed(tunnels)}, a "
                    f"tunnel made by Calico (route {route}): the node network must carry "
                    "node addresses itself"
                )
    return found


# -- forwarding -----------------------------------------------------------------------------------


def forwarding_sysctls(family: Family, fabric: str | None) -> dict[str, str]:
    """Sysctls that a forwarding node needs, with the value that each must have.

    Only IPv6 can be switched off by a sysctl (disable_ipv6); IPv4 has nothing like it.
    """
    if family is Family.IPV4:
        return {"net/ipv4/ip_forward": "1"}
    places = ["all", "default", *([fabric] if fabric else [])]
    wanted = {f"net/ipv6/conf/{place}/disable_ipv6": "0" for place in places}
    return {"net/ipv6/conf/all/forwarding": "1", **wanted}


def forwarding_findings(
    node: str, family: Family, state: NetState, seen: Mapping[str, str | None], fabric: str | None
) -> list[str]:
    """CFG-010: a node forwards the family, has it on, and knows a default route for it.

    Args:
        seen: observed values of ``forwarding_sysctls``.
        fabric: interface with the node's InternalIP.
    """
    found = []
    for name, wanted in forwarding_sysctls(family, fabric).items():
        value = seen.get(name)
        if value == wanted:
            continue
        said = "is not there" if value is None else f"is {value}"
        found.append(
            f"{_effect(name, family)} on node {node}: sysctl {name.replace('/', '.')} {said}, "
            f"must be {wanted}{_felix_hint(name)}"
        )
    if not state.default_routes(family):
        found.append(
            f"node {node} has no {family.kubernetes} default route: its pods cannot reach "
            f"anything beyond the cluster over {family.kubernetes}; add one on the fabric interface"
            f"{f' {fabric}' if fabric else ''}"
        )
    return found


def _effect(name: str, family: Family) -> str:
    if name.endswith("disable_ipv6"):
        return "IPv6 is switched off"
    return f"{family.kubernetes} forwarding is off"


def _felix_hint(name: str) -> str:
    if not name.endswith("all/forwarding"):
        return ""
    return " (Felix sets it once at its start, and only with FELIX_IPV6SUPPORT=true)"


# -- BGP addresses --------------------------------------------------------------------------------


def fabric_interface(node: NodeView, family: Family, state: NetState) -> str | None:
    """Interface with the node's InternalIP of the family, else of any family; None: on none."""
    mine = [a for a in node.internal_ips.all if Family.of(a) is family]
    for address in (*mine, *node.internal_ips.all):
        interface = state.interface_of(address)
        if interface is not None:
            return interface.name
    return None


def bgp_address_findings(
    node: NodeView, family: Family, env: Mapping[str, str | None], state: NetState
) -> list[str]:
    """CFG-012: Calico looks for the family's address, and has a live one: the InternalIP.

    Args:
        env: environment of calico-node on this node.
    """
    name, annotation = family.kubernetes, ADDRESS_ANNOTATIONS[family]
    where = f"node {node.name}"
    found = _autodetection_findings(where, family, env)
    address = NodeNetwork.from_annotations(node.annotations).address(family)
    if address is None:
        found.append(
            f"Calico has no {name} address for {where} (annotation {annotation} is absent): BIRD "
            f"has no {name} session to it and its {name} blocks are not routed; set "
            f"{ADDRESS_VARIABLE[family]}=autodetect and restart calico-node"
        )
        return found
    interface = state.interface_of(address)
    if interface is None:
        found.append(
            f"Calico's {name} address {address} of {where} is on none of its interfaces: it is "
            f"left over from before; remove annotation {annotation} and restart calico-node"
        )
    elif not interface.fabric:
        found.append(
            f"Calico took {address} on {interface.name} for the {name} address of {where}, which "
            f"is no interface to other nodes: set {ADDRESS_VARIABLE[family]}_AUTODETECTION_METHOD"
        )
    internal = node.internal_ips.of(family)
    if address != internal:
        found.append(
            f"Calico uses {address} for {where}, Kubernetes its {name} InternalIP "
            f"{internal or '(none)'}: set {ADDRESS_VARIABLE[family]}_AUTODETECTION_METHOD="
            "kubernetes-internal-ip, or correct the kubelet's --node-ip"
        )
    return found


def _autodetection_findings(where: str, family: Family, env: Mapping[str, str | None]) -> list[str]:
    variable = ADDRESS_VARIABLE[family]
    value = env.get(variable) or ""
    # startup.go: an unset IP is detected, an unset IP6 means that the node has no IPv6.
    if value.lower() == "none" or (not value and family is Family.IPV6):
        return [
            f"calico-node on {where} has {variable}={value or '(unset)'}: it does not look for an "
            f"{family.kubernetes} address; set {variable}=autodetect"
        ]
    return []
