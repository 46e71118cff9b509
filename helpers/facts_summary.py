"""What results.json says of the cluster: the facts that reports and diagnosis rules read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from helpers.calico import NodeNetwork
from helpers.model import FAMILIES, Family

if TYPE_CHECKING:
    from helpers.facts import Facts
    from helpers.views import NodeView

# Settings of calico-node that are about addresses, families and dataplane; none holds a secret.
CALICO_VARIABLES: Final = ("IP", "IP6", "CALICO_", "FELIX_", "DATASTORE_TYPE")
FELIX_FIELDS: Final = ("ipv6Support", "workloadSourceSpoofing", "nftablesMode", "bpfEnabled")
PROXY_FIELDS: Final = ("mode", "clusterCIDR", "detectLocalMode", "nodePortAddresses")


def summarized(facts: Facts) -> dict[str, Any]:
    """Plain JSON; what was not observed is absent or empty."""
    return {
        "kubernetes": facts.kubernetes,
        "calico": facts.calico,
        "podCIDRs": [str(c) for c in facts.declared_pod_cidrs],
        "serviceCIDRs": [str(c) for c in facts.service_cidrs],
        "controllerPodCIDRs": [
            str(c) for c in facts.cidrs("kube-controller-manager", "cluster-cidr")
        ],
        "nodes": [_node(facts, node) for node in facts.nodes],
        "pools": [
            {
                "name": pool.name,
                "cidr": str(pool.cidr),
                "disabled": pool.disabled,
                "natOutgoing": pool.nat_outgoing,
                "ipipMode": pool.ipip_mode,
                "vxlanMode": pool.vxlan_mode,
                "nodeSelector": pool.node_selector,
            }
            for pool in facts.pools
        ],
        "kubeProxy": _chosen(facts.kube_proxy, PROXY_FIELDS),
        "calicoNode": {
            name: value
            for name, value in facts.calico_node["env"].items()
            if name.startswith(CALICO_VARIABLES) and value is not None
        },
        "felix": {name: _chosen(spec, FELIX_FIELDS) for name, spec in facts.felix.items()},
        "globalPolicies": [_policy(item) for item in facts.raw.get("global_policies", ())],
        "corefile": facts.raw.get("corefile") or "",
    }


def _node(facts: Facts, node: NodeView) -> dict[str, Any]:
    network = NodeNetwork.from_annotations(node.annotations)
    known = {family: network.address(family) for family in FAMILIES}
    return {
        "name": node.name,
        "proxyMode": facts.proxy_mode(node.name),
        "kernel": node.kernel,
        "addresses": [str(a) for a in node.internal_ips.all],
        "podCIDRs": [str(c) for c in node.pod_cidrs],
        "calicoAddresses": [str(address) for address in known.values() if address],
        "cniAssigns": [family.value for family in FAMILIES if _assigns(facts, node.name, family)],
    }


def _assigns(facts: Facts, node: str, family: Family) -> bool:
    """Whether the node's CNI configuration asks Calico's IPAM for a family (IPv4: by default)."""
    conflist = facts.cni(node) or {}
    default = "true" if family is Family.IPV4 else None
    return any(
        plugin.get("ipam", {}).get(f"assign_{family}", default) == "true"
        for plugin in conflist.get("plugins", [])
        if plugin.get("type") == "calico"
    )


def _policy(item: Mapping[str, Any]) -> dict[str, Any]:
    """A GlobalNetworkPolicy: what it selects, and what its rules allow of which family."""
    spec = item.get("spec", {})
    allows = {
        family.value
        for direction in ("ingress", "egress")
        for rule in spec.get(direction) or ()
        if rule.get("action") == "Allow" and not _narrowed(rule)
        for family in FAMILIES
        if rule.get("ipVersion", family.version) == family.version
    }
    return {
        "name": item["metadata"]["name"],
        "order": spec.get("order"),
        "selector": spec.get("selector", ""),
        "allowsAll": sorted(allows),
    }


def _narrowed(rule: Mapping[str, Any]) -> bool:
    """Whether a rule looks at more than the family of a packet."""
    return any(rule.get(key) for key in ("protocol", "source", "destination", "http", "icmp"))


def _chosen(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) is not None}
