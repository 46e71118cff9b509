"""Which MTU pods must have, and whether packets of that size pass.

Calico gives all pods of a node one MTU: the node's, less what the largest enabled encapsulation
of either family adds (felix/dataplane/linux/int_dataplane.go, Calico docs "Configure MTU").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from helpers.calico import IPPool
from helpers.model import Family
from helpers.probes import Observation, Outcome

# What an encapsulation adds to a packet, in bytes, and the FelixConfiguration field for the two
# that are not set on a pool.
IPIP: Final = 20
VXLAN: Final = {Family.IPV4: 50, Family.IPV6: 70}
WIREGUARD: Final = {Family.IPV4: ("wireguardEnabled", 60), Family.IPV6: ("wireguardEnabledV6", 80)}

# IP header and ICMP header: what an echo's payload leaves of the MTU.
ECHO_HEADERS: Final = {Family.IPV4: 20 + 8, Family.IPV6: 40 + 8}


def overheads(pools: Iterable[IPPool], felix: Mapping[str, Any]) -> dict[str, int]:
    """Every enabled encapsulation and what it adds; Felix looks at disabled pools, too.

    Args:
        felix: spec of the FelixConfiguration ``default``.
    """
    found: dict[str, int] = {}
    for pool in pools:
        if pool.ipip_mode != "Never":
            found[f"IPIP of pool {pool.name}"] = IPIP
        if pool.vxlan_mode != "Never":
            found[f"VXLAN of pool {pool.name}"] = VXLAN[pool.family]
    for family, (field, size) in WIREGUARD.items():
        if felix.get(field):
            found[f"WireGuard for {family.kubernetes}"] = size
    return found


def mtu_findings(
    where: str,
    pod_mtu: int,
    node_mtu: int,
    added: Mapping[str, int],
    declared: int | None = None,
) -> list[str]:
    """CONN-008: the pod's MTU is the node's less the largest overhead.

    Args:
        added: see ``overheads``.
        declared: MTU that the cluster's profile sets; it may be smaller, never larger.
    """
    largest = max(added, key=lambda name: added[name], default="")
    room = node_mtu - added.get(largest, 0)
    expected = min(room, declared or room)
    if pod_mtu == expected:
        return []
    why = f"the node's {node_mtu}" + (f" less {added[largest]} for {largest}" if largest else "")
    if expected != room:
        why = f"{declared} declared by the profile"
    harm = (
        "larger packets than the nodes' network carries are dropped on the way"
        if pod_mtu > expected
        else "every pod packet is smaller than it could be"
    )
    return [
        f"{where}: eth0 has MTU {pod_mtu}, expected {expected} ({why}): {harm}; set veth_mtu in "
        "the ConfigMap calico-config (kube-system) to 0 and FelixConfiguration's mtu fields to "
        "nothing, then recreate the pods"
    ]


def echo_size(mtu: int, family: Family) -> int:
    """Payload of an echo that makes a packet of exactly ``mtu`` bytes."""
    return mtu - ECHO_HEADERS[family]


def passing_findings(where: str, mtu: int, full: Observation, beyond: Observation) -> list[str]:
    """CONN-008: an unfragmented packet of the MTU passes, one byte more does not leave the pod.

    The second is the control of the first: it shows that the sender did not fragment.
    """
    found = []
    if not full.reached:
        found.append(
            f"{where}: an unfragmented {full.probe.family.kubernetes} packet of {mtu} bytes, the "
            f"pod's own MTU, does not pass ({full.outcome}: {full.error}): a link between the "
            "nodes carries less; lower the pods' MTU or raise the link's"
        )
    if beyond.outcome is not Outcome.UNREACHABLE or "EMSGSIZE" not in (beyond.error or ""):
        found.append(
            f"{where}: a packet of {mtu + 1} bytes that must not be fragmented was not refused by "
            f"the pod's own interface ({beyond.outcome}: {beyond.error}): the pod's route to "
            "the target has another MTU than its interface"
        )
    return found
