"""Whether Calico is configured for both families (CFG-011, CFG-013, CFG-014, CFG-016).

Pure judgements, and the one observation of calico-node pods that they share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from helpers.calico import IPPool
from helpers.calico_selector import SelectorError, selects
from helpers.findings import listed
from helpers.kube_errors import ApiError
from helpers.model import Family
from helpers.netstate import Netfilter
from helpers.platforms import CalicoNode, felix_setting, truth
from helpers.views import NodeView, PodView

if TYPE_CHECKING:
    from helpers.kube import Kube, Object

CALICO_NODE: Final = "calico-node"  # label k8s-app of its pods and name of its container
NAMESPACE_SELECTOR_SINCE: Final = (3, 31)


# -- CNI ------------------------------------------------------------------------------------------


def cni_findings(node: str, family: Family, conflist: Mapping[str, Any] | None) -> list[str]:
    """CFG-011: the CNI configuration on a node asks Calico's IPAM for the family.

    Args:
        conflist: ``/etc/cni/net.d/10-calico.conflist`` of the node, None when it is not there.
    """
    if conflist is None:
        return [
            f"node {node} has no /etc/cni/net.d/10-calico.conflist: its pods are not Calico's; "
            "restart calico-node there, its init container install-cni writes the file"
        ]
    plugins = [p for p in conflist.get("plugins", []) if p.get("type") == "calico"]
    if len(plugins) != 1:
        return [f"the CNI configuration on node {node} has {len(plugins)} plugins of type calico"]
    ipam = plugins[0].get("ipam", {})
    if ipam.get("type") != "calico-ipam":
        return [
            f"the CNI configuration on node {node} has ipam.type {ipam.get('type')!r}, must be "
            "'calico-ipam': set it in the ConfigMap calico-config and restart calico-node"
        ]
    key = f"assign_{family}"
    # ipam_plugin.go: IPv4 is assigned unless it is switched off, IPv6 only when asked for.
    value = ipam.get(key, "true" if family is Family.IPV4 else None)
    if value == "true":
        return []
    name, other = family.kubernetes, family.other.kubernetes
    return [
        f"Calico CNI config on node {node} does not request {name} (ipam.{key} is "
        f'{"absent" if value is None else repr(value)}, must be the string "true"): new pods get '
        f"{other} only; set it in cni_network_config of the ConfigMap calico-config and restart "
        "calico-node"
    ]


# -- calico-node ----------------------------------------------------------------------------------


def calico_nodes(kube: Kube) -> dict[str, CalicoNode]:
    """The calico-node pod of each node, in whichever namespace Calico is installed."""
    found = {}
    for pod in kube.objects("v1", "Pod", selector=f"k8s-app={CALICO_NODE}"):
        view = PodView.from_api(pod)
        if view.node is None or view.deleting:
            continue
        container = _container(pod["spec"]["containers"])
        status = _container(pod.get("status", {}).get("containerStatuses", []))
        found[view.node] = CalicoNode(
            node=view.node,
            pod=view.name,
            namespace=view.namespace,
            env=_environment(kube, view.namespace, container),
            ready=view.ready,
            restarts=int(status.get("restartCount", 0)),
            problem=view.waiting or _last_end(status),
        )
    return found


def _container(items: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((item for item in items if item.get("name") == CALICO_NODE), {})


def _last_end(status: Mapping[str, Any]) -> str | None:
    ended = status.get("lastState", {}).get("terminated")
    if not ended:
        return None
    said = str(ended.get("message") or "").strip()[-300:]
    return f"it last ended with {ended.get('exitCode')} ({ended.get('reason')}) {said}".rstrip()


def _environment(kube: Kube, namespace: str, container: Mapping[str, Any]) -> dict[str, str | None]:
    """Variables of a container; None for those that only exist inside the pod (fieldRef)."""
    maps: dict[str, Mapping[str, str]] = {}

    def data(name: str) -> Mapping[str, str]:
        if name not in maps:
            found = kube.get("v1", "ConfigMap", name, namespace) or {}
            maps[name] = found.get("data") or {}
        return maps[name]

    env: dict[str, str | None] = {}
    for source in container.get("envFrom") or []:
        if "configMapRef" in source:
            env |= data(source["configMapRef"]["name"])
    for entry in container.get("env") or []:
        reference = (entry.get("valueFrom") or {}).get("configMapKeyRef")
        value = data(reference["name"]).get(reference["key"]) if reference else entry.get("value")
        env[entry["name"]] = value if "valueFrom" in entry else value or ""
    return env


# -- Felix ----------------------------------------------------------------------------------------


def felix_ipv6_findings(
    calico: CalicoNode, felix: Mapping[str, Mapping[str, Any]], filters: Netfilter
) -> list[str]:
    """CFG-013: Felix programs IPv6 on a node, by its settings and by what is in the kernel.

    Off means fail-open: pods still talk IPv6, and no policy holds for it.
    """
    value, where = felix_setting("ipv6Support", calico.node, calico.env, felix)
    effective = truth(value, default=True)  # felix/config/config_params.go: bool;true
    off = (
        "IPv6 works but NetworkPolicy and anti-spoofing are NOT enforced for IPv6; set "
        "FELIX_IPV6SUPPORT=true on calico-node"
    )
    if effective is None:
        return [
            f"Felix on {calico.node} is given {where}={value!r}, which is no boolean: it does not "
            "start; write true"
        ]
    if not effective:
        return [f"Felix IPv6 support is off on node {calico.node} ({where} is {value}): {off}"]
    has_chains = any(chain.startswith("cali-") for chain in filters.chains[Family.IPV6])
    if has_chains or "calico" in filters.tables[Family.IPV6]:
        return []
    return [
        f"Felix IPv6 support is on for node {calico.node} ({where}), but Felix has programmed "
        f"nothing there: no cali- chains in ip6tables and no table ip6 calico ({calico.pod} is "
        f"{'Ready' if calico.ready else 'not Ready'}); see the log of calico-node"
    ]


# -- pools ----------------------------------------------------------------------------------------


def workload_pools(pools: Iterable[IPPool], family: Family) -> list[IPPool]:
    """Pools that pods get addresses of a family from, by themselves."""
    return [pool for pool in pools if pool.family is family and not _why_not(pool)]


def _why_not(pool: IPPool) -> str:
    if pool.disabled:
        return "is disabled"
    if pool.assignment_mode != "Automatic":
        return f"has assignmentMode {pool.assignment_mode}"
    if "Workload" not in pool.allowed_uses:
        return f"is for {listed(pool.allowed_uses)} only"
    return ""


def pool_findings(
    pools: Sequence[IPPool],
    family: Family,
    nodes: Iterable[NodeView],
    namespaces: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """CFG-014: every schedulable node, and every namespace on it, has a pool of the family.

    Args:
        namespaces: labels by name; empty where pools know no namespaceSelector (before 3.31).
    """
    name = family.kubernetes
    mine = [pool for pool in pools if pool.family is family]
    usable = workload_pools(pools, family)
    excuses = listed(f"{p.name} {_why_not(p)}" for p in mine if _why_not(p))
    try:
        return _unselected(usable, name, nodes, namespaces, excuses)
    except SelectorError as error:
        return [f"an {name} IPPool has a selector that cannot be read: {error}"]


def _unselected(
    usable: Sequence[IPPool],
    name: str,
    nodes: Iterable[NodeView],
    namespaces: Mapping[str, Mapping[str, str]],
    excuses: str,
) -> list[str]:
    found = []
    for node in nodes:
        if not node.schedulable:
            continue
        here = [pool for pool in usable if selects(pool.node_selector, node.labels)]
        if not here:
            others = [f"{p.name} selects nodes by {p.node_selector}" for p in usable]
            why = "; ".join([*others, *([excuses] if excuses != "none" else [])])
            found.append(
                f"No enabled Calico {name} IPPool selects node {node.name} "
                f"({why or 'there is none'}): CNI ADD fails, new pods stay ContainerCreating; "
                f"running pods keep their {name}; enable one with nodeSelector all()"
            )
            continue
        left_out = [
            namespace
            for namespace, labels in namespaces.items()
            if not any(selects(pool.namespace_selector, labels) for pool in here)
        ]
        if left_out:
            found.append(
                f"No Calico {name} IPPool of node {node.name} is for the namespaces "
                f"{listed(left_out)}: their new pods get no {name} address; widen the "
                "namespaceSelector of a pool"
            )
    return found


def encapsulation_findings(pools: Iterable[IPPool], family: Family) -> list[str]:
    """CFG-016: no enabled pool of the family encapsulates, where the profile declares native."""
    return [
        f"{family.kubernetes} IPPool {pool.name} has ipipMode {pool.ipip_mode} and vxlanMode "
        f"{pool.vxlan_mode}, the profile requires native {family.kubernetes}: set both to Never"
        for pool in pools
        if pool.family is family and not pool.disabled and pool.encapsulated
    ]


def ipip_on_ipv6_is_refused(kube: Kube) -> bool | None:
    """Whether Calico's API refuses an IPv6 pool with IPIP, which exists for IPv4 only (dry run).

    None where Calico's API (projectcalico.org/v3) is not installed: the custom resources behind
    it validate nothing (Calico 3.31), calicoctl does.
    """
    pool: Object = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "dsc-ipip-on-ipv6"},
        "spec": {"cidr": "2001:db8:dead::/64", "ipipMode": "Always", "disabled": True},
    }
    try:
        kube.create(pool, dry_run=True)
    except LookupError:
        return None
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        return True
    return False
