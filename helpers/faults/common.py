"""What several subjects of faults use: where components run, and their configuration as text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import File, NftTable, Restart, Rule, Step
from helpers.faults.objects import Patch
from helpers.model import Family
from helpers.service_proxy_config import MODE_LABEL

SYSTEM: Final = "kube-system"
CALICO_NODE: Final = "k8s-app=calico-node"
KUBE_PROXY: Final = "k8s-app=kube-proxy"
IPVS_CONFIG: Final = "kube-proxy-ipvs"  # ConfigMap of nodes in ipvs mode beside others
CONFLIST: Final = "/etc/cni/net.d/10-calico.conflist"
CALICO_CRD: Final = "crd.projectcalico.org/v1"
POOL: Final = {Family.IPV4: "default-ipv4-ippool", Family.IPV6: "default-ipv6-ippool"}


# How nftables and sysctl spell the families.
NFT: Final = {Family.IPV4: "ip", Family.IPV6: "ip6"}
ICMP: Final = {Family.IPV4: "icmp", Family.IPV6: "icmpv6"}


def nft(node: str, family: Family, *rules: tuple[str, int, str]) -> NftTable:
    """Filter rules in the private table: (hook, priority, rule) each."""
    made = tuple(Rule(hook=hook, priority=at, rule=rule) for hook, at, rule in rules)
    return NftTable(node=node, family=family, rules=made)


def pool(family: Family, *then: Step, **spec: Any) -> Patch:
    """Settings of the default IP pool of a family."""
    return Patch(
        api_version=CALICO_CRD,
        kind="IPPool",
        name=POOL[family],
        patch={"spec": dict(spec)},
        then=then,
    )


def conflist(bench: Bench, node: str, key: str, value: Any, *, ipam: bool = True) -> File:
    """A node's CNI configuration with one key of Calico's part changed (None: left out).

    Args:
        ipam: whether the key belongs to the IPAM part or to the plugin itself.
    """
    config: dict[str, Any] = json.loads(bench.run(node, "cat", CONFLIST))
    for plugin in config["plugins"]:
        if "ipam" in plugin:
            part = plugin["ipam"] if ipam else plugin
            part.pop(key, None)
            if value is not None:
                part[key] = value
    return File(node=node, path=CONFLIST, text=json.dumps(config, indent=2))


def kube_proxy_config(
    bench: Bench,
    change: Callable[[dict[str, Any]], None],
    *,
    name: str = "kube-proxy",
    restart: str | None = "all",
) -> Patch:
    """A kube-proxy's configuration, changed.

    Args:
        name: of the ConfigMap.
        restart: the kube-proxies that start anew: ``all`` that read it, those of one node, or None.
    """
    found = bench.kube.get("v1", "ConfigMap", name, SYSTEM)
    if found is None:
        raise FaultError(f"there is no ConfigMap {SYSTEM}/{name}")
    config = yaml.safe_load(found["data"]["config.conf"])
    change(config)
    node = None if restart == "all" else restart
    steps: tuple[Step, ...] = ()
    if restart is not None:
        mode = name.removeprefix("kube-proxy-")
        which = f"!{MODE_LABEL}" if mode == name else f"{MODE_LABEL}={mode}"
        steps = (Restart(namespace=SYSTEM, selector=f"{KUBE_PROXY},{which}", node=node),)
    return Patch(
        api_version="v1",
        kind="ConfigMap",
        name=name,
        namespace=SYSTEM,
        patch={"data": {"config.conf": yaml.safe_dump(config)}},
        then=steps,
    )


def edited(bench: Bench, node: str, path: str, *edits: tuple[str, str]) -> File:
    """A text file of a node with regular expressions replaced.

    Raises:
        FaultError: an expression is not in the file.
    """
    text = bench.run(node, "cat", path)
    for pattern, replacement in edits:
        text, count = re.subn(pattern, replacement, text)
        if not count:
            raise FaultError(f"{path} on {node} has no {pattern}")
    return File(node=node, path=path, text=text)


def calico_environment(bench: Bench, changes: Mapping[str, str]) -> list[dict[str, Any]]:
    """The containers of calico-node's DaemonSet with variables changed, for a patch."""
    found = bench.kube.get("apps/v1", "DaemonSet", "calico-node", SYSTEM)
    if found is None:
        raise FaultError("there is no DaemonSet kube-system/calico-node")
    containers: list[dict[str, Any]] = found["spec"]["template"]["spec"]["containers"]
    for container in containers:
        if container["name"] == "calico-node":
            kept = [e for e in container["env"] if e["name"] not in changes]
            added = [{"name": name, "value": value} for name, value in changes.items()]
            container["env"] = [*kept, *added]
    return containers


def calico_node_on(
    bench: Bench, node: str, changes: Mapping[str, str], *, ready: bool = True
) -> Patch:
    """Environment of calico-node changed on one node only: the others keep their pods.

    Args:
        ready: whether it becomes Ready with it.
    """
    restart = Restart(namespace=SYSTEM, selector=CALICO_NODE, node=node, ready=ready)
    return calico_node(bench, changes, restart)


def calico_node(bench: Bench, changes: Mapping[str, str], *then: Step) -> Patch:
    """Environment of calico-node changed, which pods get that are made anew: see ``then``."""
    template = {"spec": {"containers": calico_environment(bench, changes)}}
    return Patch(
        api_version="apps/v1",
        kind="DaemonSet",
        name="calico-node",
        namespace=SYSTEM,
        patch={
            "spec": {
                "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
                "template": template,
            }
        },
        then=then,
    )
