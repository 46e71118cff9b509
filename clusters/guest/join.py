"""How guest nodes come into a cluster: what is arranged in it first, and what they are told.

A guest boots while kind makes the other nodes. It is told how to join when kubeadm has done the
last thing that a new node needs, and when a kube-proxy of its mode is there to run on it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from clusters import render_proxy
from clusters.commands import Progress, output
from clusters.errors import ClusterError
from clusters.guest import plan as plans
from clusters.guest.machine import Guest
from clusters.guest.plan import GuestPlan
from clusters.spec import ClusterSpec
from helpers.kube import Kube
from helpers.model import DualAddresses

TOKEN_LIFE: Final = timedelta(hours=1)
NAMESPACE: Final = "kube-system"


def arrange_proxies(kube: Kube, spec: ClusterSpec, progress: Progress) -> bool:
    """Have a kube-proxy for each mode of the profile; False while kubeadm's own is not there.

    kubeadm deploys it last of all that a joining node needs.
    """
    daemon_set = kube.get("apps/v1", "DaemonSet", render_proxy.NAME, NAMESPACE)
    config_map = kube.get("v1", "ConfigMap", render_proxy.NAME, NAMESPACE)
    if daemon_set is None or config_map is None:
        return False
    modes = render_proxy.other_modes(spec)
    if modes:
        progress(f"kube-proxy in {', '.join(modes)} mode beside {spec.proxy_mode}")
        # First the one that is there, at once: it is restarted where it runs already.
        kube.apply([render_proxy.kept_off(modes)])
        for mode in modes:
            kube.apply(render_proxy.proxy_of_mode(config_map, daemon_set, mode))
    return True


def tell(
    kube: Kube,
    spec: ClusterSpec,
    guests: Iterable[tuple[GuestPlan, Guest]],
    docker: tuple[str, ...],
    network: str,
) -> None:
    """Tell guests how to join the cluster.

    Raises:
        ClusterError: the cluster was not made by kubeadm, or its endpoint has no addresses.
    """
    endpoint = control_plane_endpoint(kube)
    host = endpoint.rpartition(":")[0]
    known = {host: container_addresses(docker, host, network)}
    token = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
    kube.apply([plans.token_secret(token, datetime.now(UTC) + TOKEN_LIFE)])
    discovery = plans.discovery(kube.kubeconfig.read_text(), endpoint)
    for plan, guest in guests:
        shared = guest.shared
        (shared / "hosts").write_text(plans.hosts(plan, spec, known))
        (shared / plans.DISCOVERY).write_text(discovery)
        _write_whole(shared / plans.JOIN, plans.join_configuration(plan, spec, token))


def _write_whole(path: Path, document: Mapping[str, Any]) -> None:
    """The guest waits for this file: it must never see half of it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    draft.replace(path)


def control_plane_endpoint(kube: Kube) -> str:
    """Host and port by which nodes reach the API server.

    Raises:
        ClusterError: kubeadm's record of the cluster is missing.
    """
    found = kube.get("v1", "ConfigMap", "kubeadm-config", NAMESPACE)
    text = (found or {}).get("data", {}).get("ClusterConfiguration", "")
    endpoint = (yaml.safe_load(text) or {}).get("controlPlaneEndpoint") if text else None
    if not endpoint:
        raise ClusterError(
            "ConfigMap kube-system/kubeadm-config has no controlPlaneEndpoint: guest nodes join "
            "clusters that kubeadm made with one."
        )
    return str(endpoint)


def container_addresses(docker: tuple[str, ...], name: str, network: str) -> DualAddresses:
    """A container's addresses of both families on a network."""
    inspected = json.loads(output([*docker, "inspect", name]))[0]
    there = inspected["NetworkSettings"]["Networks"][network]
    return DualAddresses.parse([there["IPAddress"], there["GlobalIPv6Address"]])


def bridge_of(docker: tuple[str, ...], network: str) -> str:
    """The device of a Docker network that containers are connected to."""
    inspected = json.loads(output([*docker, "network", "inspect", network]))[0]
    named = inspected.get("Options", {}).get("com.docker.network.bridge.name")
    return str(named or f"br-{inspected['Id'][:12]}")
