"""What a guest node is to be, and the files and arguments that say so. Pure functions.

The host shares a folder with each guest: `settings` and `hosts` are there when it boots,
`discovery.yaml` and, last, `join.yaml` when the cluster can be joined.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml

from clusters import outside
from clusters.guest.host import MEMORY_MIB
from clusters.images import GuestFiles
from clusters.render_kind import API_CALL_WITHIN, node_labels
from clusters.spec import ClusterSpec, NodeGroup
from helpers.model import FAMILIES, DualAddresses

MTU: Final = 1500
FIRST_NUMBER: Final = 200  # of a guest's address on the nodes' network: kind's nodes begin at 2
PROCESSORS: Final = 2  # of each guest, at most: as many as the configured kernel takes
SHARED: Final = "host"  # folder beside the disk, mounted on /dsc/host in the guest
JOIN: Final = "join.yaml"
DISCOVERY: Final = "discovery.yaml"
# Generous, because a guest starts programs slowly: Go durations.
BOOTSTRAP_WITHIN: Final = "3m0s"


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """One guest node.

    Attributes:
        addresses: its own on the network of the nodes.
        device: the guest's end of its network cable, on the host; `port` is the other end.
    """

    name: str
    group: NodeGroup
    addresses: DualAddresses
    device: str
    port: str
    mac: str


def guest_plans(spec: ClusterSpec, cluster: str) -> list[GuestPlan]:
    """The guest nodes of a cluster, named after their groups."""
    plans: list[GuestPlan] = []
    for group in spec.guest_groups:
        for number in range(1, group.count + 1):
            index = len(plans)
            name = f"{cluster}-{group.name}{number if number > 1 else ''}"
            stem = f"{device_prefix(cluster)}{index}"
            plans.append(
                GuestPlan(name, group, _addresses(spec, index), f"{stem}g", f"{stem}b", _mac(name))
            )
    return plans


def device_prefix(cluster: str) -> str:
    """How the names of a cluster's cables begin; an interface's name has at most 15 characters."""
    return f"dsc{hashlib.sha256(cluster.encode()).hexdigest()[:7]}"


def _addresses(spec: ClusterSpec, index: int) -> DualAddresses:
    """Fixed ones, far from those that the engine gives and from the outside host's."""
    found = []
    for family in spec.families:
        network = spec.node_cidr(family)
        large = network.num_addresses > outside.OWN_NUMBER + 1
        # In a small network the outside host has the last but one: guests come before it.
        found.append(network[FIRST_NUMBER + index] if large else network[-3 - index])
    return DualAddresses(tuple(found))


def _mac(name: str) -> str:
    """A locally administered address that follows from the node's name."""
    digest = hashlib.sha256(name.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def kernel_arguments(plan: GuestPlan, files: GuestFiles, folder: Path) -> list[str]:
    """The command that is the guest. `folder` holds its own files."""
    processors = min(PROCESSORS, os.cpu_count() or 1)
    return [
        str(files.kernel),
        f"mem={MEMORY_MIB}M",
        f"ncpus={processors}",
        "seccomp=auto",  # how its programs are trapped: without it, by ptrace, which is slower
        f"ubd0={folder / 'disk.cow'},{files.disk}",
        "root=/dev/ubda",
        "rw",
        "init=/dsc/init",
        "panic=1",  # seconds until the process ends
        "systemd.show_status=false",  # the console is for what goes wrong
        "con=null",
        "con0=fd:0,fd:1",
        # transport=tap crashes this driver; raw takes frames from one end of a veth pair.
        f"vec0:transport=raw,ifname={plan.device},depth=64,gro=1",
        f"hostfs={folder / SHARED}",  # the guest sees nothing else of the host's files
        f"uml_dir={folder / 'uml'}/",
        "umid=guest",
    ]


def settings(plan: GuestPlan, spec: ClusterSpec) -> str:
    """What /dsc/init reads: shell assignments."""
    prefixes = {family: spec.node_cidr(family).prefixlen for family in FAMILIES}
    gateways = outside.node_network_addresses(spec)
    own = [f"{plan.addresses.require(f)}/{prefixes[f]}" for f in spec.families]
    values = {
        "NODE": plan.name,
        "MACHINE_ID": uuid.uuid5(uuid.NAMESPACE_DNS, plan.name).hex,
        "MAC": plan.mac,
        "MTU": str(MTU),
        "ADDRESSES": " ".join(own),
        # The outside host, as on every node. It answers no DNS, and says so at once.
        "GATEWAYS": " ".join(str(gateways.require(f)) for f in spec.families),
        "NAMESERVER": str(gateways.require(spec.primary)),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def hosts(plan: GuestPlan, spec: ClusterSpec, others: Mapping[str, DualAddresses]) -> str:
    """/etc/hosts of the guest: itself, and hosts whose names it must know, in both families."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for name, addresses in {plan.name: plan.addresses, **others}.items():
        lines += [f"{addresses.require(family)} {name}" for family in spec.families]
    return "".join(f"{line}\n" for line in lines)


def join_configuration(plan: GuestPlan, spec: ClusterSpec, token: str) -> dict[str, Any]:
    """kubeadm's JoinConfiguration (v1beta4, Kubernetes 1.31 and later)."""
    labels = ",".join(f"{name}={value}" for name, value in node_labels(plan.group).items())
    node_ip = ",".join(str(plan.addresses.require(family)) for family in spec.families)
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {
            "file": {"kubeConfigPath": f"/dsc/{SHARED}/{DISCOVERY}"},
            "tlsBootstrapToken": token,
        },
        "timeouts": {
            "kubernetesAPICall": API_CALL_WITHIN,
            "discovery": BOOTSTRAP_WITHIN,
            "tlsBootstrap": BOOTSTRAP_WITHIN,
            "kubeletHealthCheck": BOOTSTRAP_WITHIN,
        },
        "nodeRegistration": {
            "name": plan.name,
            "criSocket": "unix:///run/containerd/containerd.sock",
            "taints": [],
            "kubeletExtraArgs": [
                {"name": "node-ip", "value": node_ip},
                {"name": "node-labels", "value": labels},
            ],
        },
    }


def discovery(kubeconfig: str, endpoint: str) -> str:
    """A kubeconfig that says where the cluster is and whom to trust there, and has no user.

    Args:
        kubeconfig: of an administrator, for the authority's certificate.
        endpoint: host and port of the API server as nodes reach it.
    """
    known = yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]
    cluster = {
        "server": f"https://{endpoint}",
        "certificate-authority-data": known["certificate-authority-data"],
    }
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}]}
    )


def token_secret(token: str, expires: datetime) -> dict[str, Any]:
    """The bootstrap token as the API server knows it (kubeadm's own way to make nodes known)."""
    identifier, secret = token.split(".")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{identifier}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": identifier,
            "token-secret": secret,
            "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }
