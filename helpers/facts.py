"""What is true of the cluster for the whole run, observed once and shared by all workers.

Facts hold what was observed, never what was asked for: the proxy mode of a node is what its
kube-proxy answers, the CIDRs are what the components were started with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from helpers.calico import Block, BlockAffinity, IPPool, NodeNetwork
from helpers.facts_summary import summarized
from helpers.model import Family, IPNetwork
from helpers.once import once
from helpers.views import NodeView

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube

KUBE_SYSTEM = "kube-system"
CNI_CONFIG = "/host/etc/cni/net.d/10-calico.conflist"
STATIC_COMPONENTS = ("kube-apiserver", "kube-controller-manager")


@dataclass(frozen=True)
class Facts:
    """One observation of the cluster; ``raw`` is plain JSON so that workers can share it."""

    raw: Mapping[str, Any]

    @cached_property
    def minor(self) -> int:
        """Minor version of the API server (``1.36`` -> 36)."""
        return int(re.sub(r"\D", "", self.raw["version"]["minor"]))

    @property
    def kubernetes(self) -> str:
        return str(self.raw["version"]["gitVersion"])

    @property
    def calico(self) -> str:
        """Calico's version as its ClusterInformation says, else the calico-node image's tag."""
        for info in self.raw["cluster_information"]:
            if info["spec"].get("calicoVersion"):
                return str(info["spec"]["calicoVersion"])
        image: str = self.calico_node["image"]
        return image.rpartition(":")[2]

    @cached_property
    def nodes(self) -> tuple[NodeView, ...]:
        return tuple(NodeView.from_api(node) for node in self.raw["nodes"])

    @property
    def primary(self) -> Family:
        """Primary family: that of the control plane's first InternalIP."""
        leader = next((n for n in self.nodes if n.control_plane), self.nodes[0])
        return leader.internal_ips.families[0]

    def proxy_mode(self, node: str) -> str:
        """What kube-proxy on the node answers on ``:10249/proxyMode``; ``none`` without one."""
        return str(self.raw["proxy_modes"].get(node, "unknown"))

    @property
    def proxy_modes(self) -> Mapping[str, str]:
        return dict(self.raw["proxy_modes"])

    def kernel(self, node: str) -> str:
        return next(n.kernel for n in self.nodes if n.name == node)

    def arguments(self, component: str) -> dict[str, list[str]]:
        """Flags of a static component: name without dashes -> its values, split at ``,``."""
        flags: dict[str, list[str]] = {}
        for argument in self.raw["arguments"].get(component, []):
            name, _, value = argument.lstrip("-").partition("=")
            flags[name] = value.split(",") if value else []
        return flags

    def cidrs(self, component: str, flag: str) -> tuple[IPNetwork, ...]:
        return tuple(ip_network(value) for value in self.arguments(component).get(flag, []))

    @property
    def cluster_cidrs(self) -> tuple[IPNetwork, ...]:
        """Pod CIDRs: kube-controller-manager's ``--cluster-cidr``, else kubeadm's podSubnet."""
        found = self.cidrs("kube-controller-manager", "cluster-cidr")
        subnet = self.kubeadm.get("networking", {}).get("podSubnet", "")
        return found or tuple(ip_network(part) for part in subnet.split(",") if part)

    @property
    def service_cidrs(self) -> tuple[IPNetwork, ...]:
        return self.cidrs("kube-apiserver", "service-cluster-ip-range")

    def cluster_cidr(self, family: Family) -> IPNetwork | None:
        return next((c for c in self.declared_pod_cidrs if Family.of(c) is family), None)

    @property
    def declared_pod_cidrs(self) -> tuple[IPNetwork, ...]:
        """kubeadm's podSubnet where there is one (what was declared), else ``cluster_cidrs``."""
        subnet = self.kubeadm.get("networking", {}).get("podSubnet", "")
        return tuple(ip_network(part) for part in subnet.split(",") if part) or self.cluster_cidrs

    def service_cidr(self, family: Family) -> IPNetwork | None:
        return next((c for c in self.service_cidrs if Family.of(c) is family), None)

    @cached_property
    def kubeadm(self) -> Mapping[str, Any]:
        """kubeadm's ClusterConfiguration; empty on clusters made without kubeadm."""
        return yaml.safe_load(self.raw["kubeadm"] or "{}") or {}

    @cached_property
    def kube_proxy(self) -> Mapping[str, Any]:
        """KubeProxyConfiguration from the ConfigMap; empty without one."""
        return yaml.safe_load(self.raw["kube_proxy"] or "{}") or {}

    def kubelet(self, node: str) -> Mapping[str, Any]:
        """KubeletConfiguration that the node's kubelet answers on /configz."""
        value: Mapping[str, Any] = self.raw["kubelet"].get(node, {})
        return value

    def cni(self, node: str) -> Mapping[str, Any] | None:
        """CNI network list that Calico installed on the node, None when the file is not there."""
        value: Mapping[str, Any] | None = self.raw["cni"].get(node)
        return value

    @property
    def calico_node(self) -> Mapping[str, Any]:
        """``{"image", "env": {name: value}}`` of the calico-node container, references resolved."""
        value: Mapping[str, Any] = self.raw["calico_node"]
        return value

    @cached_property
    def pools(self) -> tuple[IPPool, ...]:
        return tuple(IPPool.from_api(pool) for pool in self.raw["pools"])

    def enabled_pools(self, family: Family) -> tuple[IPPool, ...]:
        return tuple(p for p in self.pools if p.family is family and not p.disabled)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(Block.from_api(block) for block in self.raw["blocks"])

    @cached_property
    def affinities(self) -> tuple[BlockAffinity, ...]:
        return tuple(BlockAffinity.from_api(item) for item in self.raw["affinities"])

    @property
    def felix(self) -> Mapping[str, Mapping[str, Any]]:
        """FelixConfiguration specs by name (``default``, ``node.NAME``)."""
        return {item["metadata"]["name"]: item.get("spec", {}) for item in self.raw["felix"]}

    def node_network(self, node: str) -> NodeNetwork:
        """What Calico believes of the node's BGP addresses (annotations, Kubernetes datastore)."""
        view = next(n for n in self.nodes if n.name == node)
        return NodeNetwork.from_annotations(view.annotations)

    def summary(self) -> dict[str, Any]:
        """What results.json says of the cluster."""
        return summarized(self)


def observe(kube: Kube, agents: AgentPool) -> dict[str, Any]:
    """One observation pass over API and nodes; what cannot be read is absent, not invented."""
    on_nodes = {name: _on_node(agents, name) for name in agents.nodes}
    return {
        "version": kube.version(),
        "nodes": kube.objects("v1", "Node"),
        "arguments": {name: _static_arguments(kube, name) for name in STATIC_COMPONENTS},
        "kubeadm": _config_map(kube, "kubeadm-config", "ClusterConfiguration"),
        "kube_proxy": _config_map(kube, "kube-proxy", "config.conf"),
        "kubelet": {name: _kubelet(kube, name) for name in agents.nodes},
        "proxy_modes": {name: found["proxy_mode"] for name, found in on_nodes.items()},
        "cni": {name: found["cni"] for name, found in on_nodes.items()},
        "calico_node": _calico_node(kube),
        "cluster_information": kube.calico("ClusterInformation"),
        "pools": kube.calico("IPPool"),
        "blocks": kube.calico("IPAMBlock"),
        "affinities": kube.calico("BlockAffinity"),
        "felix": kube.calico("FelixConfiguration"),
        "global_policies": kube.calico("GlobalNetworkPolicy"),
        "corefile": _config_map(kube, "coredns", "Corefile"),
    }


def load(state: Path, kube: Kube, agents: AgentPool) -> Facts:
    """The run's facts, observed by whichever worker asks first."""
    return Facts(once(state, "facts", lambda: observe(kube, agents)))


def _static_arguments(kube: Kube, component: str) -> list[str]:
    pods = kube.objects("v1", "Pod", KUBE_SYSTEM, f"component={component}")
    if not pods:
        return []
    container = pods[0]["spec"]["containers"][0]
    words = list(container.get("command", [])) + list(container.get("args", []))
    return [word for word in words if word.startswith("-")]


def _config_map(kube: Kube, name: str, key: str) -> str | None:
    found = kube.get("v1", "ConfigMap", name, KUBE_SYSTEM)
    value: str | None = None if found is None else found.get("data", {}).get(key)
    return value


def _kubelet(kube: Kube, node: str) -> dict[str, Any]:
    answer = kube.request("GET", f"/api/v1/nodes/{node}/proxy/configz")
    config: dict[str, Any] = answer.get("kubeletconfig", {})
    return config


def _on_node(agents: AgentPool, node: str) -> dict[str, Any]:
    agent = agents.nodes[node]
    text = agent.call_one("read_file", path=CNI_CONFIG)["text"]
    return {
        "proxy_mode": proxy_mode_now(agent),
        "cni": yaml.safe_load(text) if text else None,  # JSON is YAML
    }


def proxy_mode_now(agent: Agent) -> str:
    """What kube-proxy on the agent's node answers at this moment; ``none`` when nobody does."""
    # kube-proxy answers on the loopback address of its primary family only.
    for host in ("127.0.0.1", "[::1]"):
        answer = agent.call_one("http_get", url=f"http://{host}:10249/proxyMode")
        if answer["status"] == 200:
            return str(answer["body"]).strip()
    return "none"


def _calico_node(kube: Kube) -> dict[str, Any]:
    daemon_set = kube.get("apps/v1", "DaemonSet", "calico-node", KUBE_SYSTEM)
    if daemon_set is None:
        return {"image": "", "env": {}}
    containers = daemon_set["spec"]["template"]["spec"]["containers"]
    container = next(c for c in containers if c["name"] == "calico-node")
    env = {e["name"]: _env_value(kube, e) for e in container.get("env", [])}
    return {"image": container["image"], "env": env}


def _env_value(kube: Kube, entry: Mapping[str, Any]) -> str | None:
    if "value" in entry or "valueFrom" not in entry:
        return str(entry.get("value", ""))
    reference = entry["valueFrom"].get("configMapKeyRef")
    return _config_map(kube, reference["name"], reference["key"]) if reference else None
