"""Network policies as Kubernetes objects: pure functions, manifests out.

Kubernetes' own policies are networking.k8s.io/v1 (and select pods of their namespace); Calico's
are written as what its API server would store, crd.projectcalico.org/v1, where nothing fills in
defaults: every field that matters is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from helpers.agents.deploy import ROLE
from helpers.model import Family, IPAddress, IPNetwork
from helpers.naming import AGENT_NAMESPACE, MANAGED_BY

Object = dict[str, Any]

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"  # label that the API gives each namespace
CALICO: Final = "crd.projectcalico.org/v1"
TIER: Final = "default"  # where policies without a tier belong; part of the stored name
ANYWHERE: Final = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}  # every address of a family


def network_policy(
    namespace: str,
    name: str,
    pods: Mapping[str, str],
    *,
    ingress: Sequence[Object] | None = None,
    egress: Sequence[Object] | None = None,
) -> Object:
    """A Kubernetes NetworkPolicy; a direction without rules (None) is not policed, [] denies it.

    Args:
        pods: labels of the pods that it selects; {} selects all of the namespace.
    """
    spec: Object = {"podSelector": {"matchLabels": dict(pods)}, "policyTypes": []}
    for direction, rules in (("ingress", ingress), ("egress", egress)):
        if rules is not None:
            spec["policyTypes"].append(direction.capitalize())
            spec[direction] = list(rules)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "spec": spec,
    }


def from_peers(*peers: Object, ports: Sequence[Object] | None = None) -> Object:
    """An ingress rule; without peers it allows everybody."""
    return _rule("from", peers, ports)


def to_peers(*peers: Object, ports: Sequence[Object] | None = None) -> Object:
    """An egress rule; without peers it allows everybody."""
    return _rule("to", peers, ports)


def _rule(direction: str, peers: Sequence[Object], ports: Sequence[Object] | None) -> Object:
    rule: Object = {}
    if peers:
        rule[direction] = list(peers)
    if ports is not None:
        rule["ports"] = list(ports)
    return rule


def pods_labelled(**labels: str) -> Object:
    """Peer: pods of the policy's namespace."""
    return {"podSelector": {"matchLabels": labels}}


def agents_of_role(*roles: str) -> Object:
    """Peer: the pool's pods of some roles, in their own namespace; all of it without roles."""
    peer: Object = {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: AGENT_NAMESPACE}}}
    if roles:
        expression = {"key": ROLE, "operator": "In", "values": list(roles)}
        peer["podSelector"] = {"matchExpressions": [expression]}
    return peer


def pods_in(namespace: str, **labels: str) -> Object:
    """Peer: labelled pods of another namespace."""
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": labels},
    }


def block(cidr: IPNetwork | str, *exceptions: IPAddress) -> Object:
    """Peer: addresses of a block, without some."""
    found: Object = {"cidr": str(cidr)}
    if exceptions:
        found["except"] = [f"{each}/{each.max_prefixlen}" for each in exceptions]
    return {"ipBlock": found}


def port(number: int | str, protocol: str, end: int | None = None) -> Object:
    """A port rule: a number, a name, or a range (KEP-2079) when it has an ``end``."""
    found: Object = {"port": number, "protocol": protocol}
    if end is not None:
        found["endPort"] = end
    return found


# -- Calico ---------------------------------------------------------------------------------------


def global_policy(
    name: str,
    selector: str,
    *,
    order: float,
    ingress: Iterable[Object] | None = None,
    egress: Iterable[Object] | None = None,
    **spec: Any,
) -> Object:
    """A GlobalNetworkPolicy as it is stored; see ``network_policy`` for the directions.

    Args:
        selector: Calico's selector of endpoints, e.g. ``in_namespace`` or a label of HostEndpoints.
        order: lower ones are asked first; Kubernetes' policies have 1000.
        spec: further fields, e.g. ``applyOnForward=True``.
    """
    rules: Object = {"types": []}
    for direction, given in (("ingress", ingress), ("egress", egress)):
        if given is not None:
            rules["types"].append(direction.capitalize())
            rules[direction] = list(given)
    return {
        "apiVersion": CALICO,
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": f"{TIER}.{name}", "labels": dict(MANAGED_BY)},
        "spec": {"tier": TIER, "order": order, "selector": selector, **rules, **spec},
    }


def in_namespace(namespace: str, label: str, value: str) -> str:
    """Calico's selector of labelled pods of one namespace."""
    return f"projectcalico.org/namespace == '{namespace}' && {label} == '{value}'"
