"""Frozen views of API objects: the suite's Optional chains live here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from helpers.model import DualAddresses, Family, IPAddress, IPNetwork

CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, slots=True)
class PodView:
    """What the API says of one pod."""

    namespace: str
    name: str
    uid: str
    node: str | None
    phase: str
    ready: bool
    deleting: bool
    host_network: bool
    pod_ip: str | None  # status.podIP as written
    pod_ips: tuple[str, ...]  # status.podIPs[].ip as written
    host_ip: str | None
    host_ips: tuple[str, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    waiting: str | None  # reason and message of the first container that waits

    @property
    def addresses(self) -> DualAddresses:
        return DualAddresses.parse(self.pod_ips)

    @property
    def ended(self) -> bool:
        """Evicted, failed or done: it holds its name, runs nothing, and answers nobody."""
        return self.phase in ("Failed", "Succeeded")

    def address(self, family: Family) -> IPAddress | None:
        return self.addresses.of(family)

    @property
    def label(self) -> str:
        """``namespace/name`` for messages."""
        return f"{self.namespace}/{self.name}"

    @classmethod
    def from_api(cls, pod: Mapping[str, Any]) -> PodView:
        meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        return cls(
            namespace=meta.get("namespace", ""),
            name=meta["name"],
            uid=meta.get("uid", ""),
            node=spec.get("nodeName"),
            phase=status.get("phase", "Unknown"),
            ready=conditions.get("Ready") == "True",
            deleting="deletionTimestamp" in meta,
            host_network=bool(spec.get("hostNetwork")),
            pod_ip=status.get("podIP"),
            pod_ips=tuple(entry["ip"] for entry in status.get("podIPs") or []),
            host_ip=status.get("hostIP"),
            host_ips=tuple(entry["ip"] for entry in status.get("hostIPs") or []),
            labels=meta.get("labels") or {},
            annotations=meta.get("annotations") or {},
            waiting=_waiting(status),
        )


def _waiting(status: Mapping[str, Any]) -> str | None:
    for container in status.get("containerStatuses") or []:
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason', '?')}: {waiting.get('message', '')}".rstrip(": ")
    return None


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the API says of one node."""

    name: str
    internal_ips: DualAddresses  # status.addresses of type InternalIP, in order
    pod_cidr: str | None
    pod_cidrs: tuple[IPNetwork, ...]
    ready: bool
    schedulable: bool
    control_plane: bool
    kernel: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @classmethod
    def from_api(cls, node: Mapping[str, Any]) -> NodeView:
        meta, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        labels = meta.get("labels") or {}
        return cls(
            name=meta["name"],
            internal_ips=DualAddresses.parse(
                a["address"] for a in status.get("addresses", []) if a["type"] == "InternalIP"
            ),
            pod_cidr=spec.get("podCIDR"),
            pod_cidrs=tuple(ip_network(cidr) for cidr in spec.get("podCIDRs") or []),
            ready=conditions.get("Ready") == "True",
            schedulable=not spec.get("unschedulable", False),
            control_plane=CONTROL_PLANE_LABEL in labels,
            kernel=status.get("nodeInfo", {}).get("kernelVersion", "unknown"),
            labels=labels,
            annotations=meta.get("annotations") or {},
        )
