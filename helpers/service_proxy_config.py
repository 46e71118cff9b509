"""Whether kube-proxy runs as declared on every node (CFG-007, CFG-008).

What a node's kube-proxy answers is one witness, what it left in the kernel the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from helpers.address_ranges import of_family
from helpers.findings import listed
from helpers.model import FAMILIES, Family, IPNetwork
from helpers.netstate import Netfilter, NetState
from helpers.verdicts import Inconclusive
from helpers.views import NodeView

if TYPE_CHECKING:
    from clusters.spec import ClusterSpec
    from helpers.agents.client import Agent

# Labels of nodes that clusters.render_kind writes: their group, and the mode of their kube-proxy.
# kube-proxy's own pods have the second one as well where it is not kubeadm's mode.
GROUP_LABEL: Final = "dualstack-conformance/group"
MODE_LABEL: Final = "dualstack-conformance/proxy-mode"
METRICS_PORT: Final = 10249
LOOPBACKS: Final = ("127.0.0.1", "[::1]")  # kube-proxy answers on its primary family's only
MODES: Final = ("iptables", "ipvs", "nftables")


def declared_modes(spec: ClusterSpec, nodes: Iterable[NodeView]) -> dict[str, str]:
    """Declared mode by node: of its group by label, else of all groups with its role.

    ``auto`` where the profile leaves it open (any one mode, the same for all such nodes).

    Raises:
        Inconclusive: groups of one role differ and the node does not say which one it is in.
    """
    by_name = {group.name: group.proxy_mode.value for group in spec.nodes}
    declared = {}
    for node in nodes:
        label = node.labels.get(GROUP_LABEL)
        role = "control-plane" if node.control_plane else "worker"
        modes = {g.proxy_mode.value for g in spec.nodes if g.role.value == role}
        modes = modes or set(by_name.values())
        if label in by_name:
            declared[node.name] = by_name[label]
        elif len(modes) == 1:
            declared[node.name] = modes.pop()
        else:
            raise Inconclusive(
                f"node {node.name} has no label {GROUP_LABEL}, and the profile declares several "
                f"proxy modes ({listed(sorted(modes))}): label the node with its group's name"
            )
    return declared


def mode_findings(declared: Mapping[str, str], answered: Mapping[str, str]) -> list[str]:
    """CFG-007: kube-proxy on each node answers the declared mode.

    Args:
        answered: by node, what ``:10249/proxyMode`` says; ``none`` when nobody answers.
    """
    found = []
    for node, mode in declared.items():
        seen = answered.get(node, "none")
        if seen in ("none", "unknown"):
            found.append(
                f"kube-proxy on {node} does not answer on :{METRICS_PORT}/proxyMode: see the log "
                "of its pod in kube-system"
            )
        elif mode == "auto" and seen not in MODES:
            found.append(f"kube-proxy on {node} runs {seen}, which is none of {listed(MODES)}")
        elif mode not in ("auto", seen):
            # Until Kubernetes 1.26 it did so in silence (kubernetes#111806).
            fallback = "; it falls back when the kernel lacks ip_vs" if mode == "ipvs" else ""
            found.append(
                f"kube-proxy on {node} runs {seen}, profile requires {mode}: set mode in its "
                f"ConfigMap (kube-system/kube-proxy) and restart it{fallback}"
            )
    open_modes = {answered.get(n) for n, mode in declared.items() if mode == "auto"}
    if len(open_modes) > 1:
        found.append(
            f"kube-proxy runs different modes ({listed(sorted(map(str, open_modes)))}) on nodes "
            "for which the profile says auto: declare them per node group"
        )
    return found


def kernel_findings(node: str, mode: str, state: NetState, filters: Netfilter) -> list[str]:
    """CFG-007: the kernel holds what a kube-proxy in this mode programs, in both families."""
    if mode == "ipvs":
        if state.has("kube-ipvs0"):
            return []
        return [f"kube-proxy on {node} says ipvs, but there is no interface kube-ipvs0"]
    found = []
    for family in FAMILIES:
        if mode == "nftables":
            present = "kube-proxy" in filters.tables[family]
            what = f"table {'ip' if family is Family.IPV4 else 'ip6'} kube-proxy in nftables"
        else:
            present = "KUBE-SERVICES" in filters.chains[family]
            what = f"chain KUBE-SERVICES in {'iptables' if family is Family.IPV4 else 'ip6tables'}"
        if not present:
            found.append(
                f"kube-proxy on {node} says {mode}, but there is no {what}: it does not program "
                f"{family.kubernetes} Services; see its log for {family.kubernetes}"
            )
    return found


# -- which pods it takes for the cluster's own ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalDetection:
    """How kube-proxy tells the cluster's own pods from strangers."""

    mode: str
    cluster_cidrs: tuple[IPNetwork, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LocalDetection:
        """From KubeProxyConfiguration, as written or as the process itself shows it.

        v1alpha1 joins the CIDRs with commas in ``clusterCIDR``; the internal form, which /configz
        shows in some releases, is capitalized and from 1.31 on has ``DetectLocal.ClusterCIDRs``.
        """
        low = {key.lower(): value for key, value in config.items()}
        detect = {k.lower(): v for k, v in (low.get("detectlocal") or {}).items()}
        written = detect.get("clustercidrs") or (low.get("clustercidr") or "").split(",")
        return cls(
            mode=low.get("detectlocalmode") or "ClusterCIDR",
            cluster_cidrs=tuple(ip_network(c.strip()) for c in written if c.strip()),
        )


def read_config(agent: Agent, fallback: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the kube-proxy of the agent's node runs with (/configz), else ``fallback``.

    The ConfigMap says what the next kube-proxy will do, not what this one does.

    Raises:
        Inconclusive: there is neither.
    """
    for host in LOOPBACKS:
        answer = agent.call_one("http_get", url=f"http://{host}:{METRICS_PORT}/configz")
        if answer["status"] == 200:
            for config in json.loads(answer["body"]).values():
                return dict(config)
    if not fallback:
        raise Inconclusive(
            f"the configuration of kube-proxy on {agent.node} cannot be read: nothing answers on "
            f":{METRICS_PORT}/configz, and there is no ConfigMap kube-system/kube-proxy"
        )
    return fallback


def cluster_cidr_findings(
    node: str, family: Family, detection: LocalDetection, pods: Sequence[IPNetwork]
) -> list[str]:
    """CFG-008: kube-proxy knows the family's pods by their addresses, or by other means.

    Args:
        pods: the cluster's pod CIDRs.
    """
    if detection.mode != "ClusterCIDR":
        return []
    known = of_family(detection.cluster_cidrs, family)
    told = ",".join(map(str, detection.cluster_cidrs)) or "(none)"
    fix = "The flag is --cluster-cidr (clusterCIDR); --cluster-cidrs does not exist"
    if not known:
        return [
            f"kube-proxy on {node} knows no {family.kubernetes} cluster CIDR (clusterCIDR={told}): "
            f"{family.kubernetes} ClusterIP traffic from outside is not masqueraded. {fix}"
        ]
    return [
        f"kube-proxy on {node} takes {known[0]} for the {family.kubernetes} pods (clusterCIDR="
        f"{told}), which does not cover their CIDR {cidr}: it masquerades what those pods send "
        f"to Services. {fix}"
        for cidr in of_family(pods, family)
        # It uses the first CIDR of a family and no other (cmd/kube-proxy, getLocalDetectors).
        if not (cidr.network_address in known[0] and cidr.broadcast_address in known[0])
    ]
