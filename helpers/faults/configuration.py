"""Faults of the cluster's configuration: flags, node addresses, CNI, Calico's own settings."""

from __future__ import annotations

from typing import Any, Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Exec, Sysctl
from helpers.faults.common import (
    CALICO_CRD,
    IPVS_CONFIG,
    NFT,
    POOL,
    SYSTEM,
    calico_node_on,
    conflist,
    edited,
    kube_proxy_config,
    nft,
    pool,
)
from helpers.faults.objects import Patch, Whole
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.faults.service_proxy import ipvs_node
from helpers.model import Family
from helpers.views import PodView

KUBELET_FLAGS: Final = "/var/lib/kubelet/kubeadm-flags.env"
MANIFESTS: Final = "/etc/kubernetes/manifests"
MANAGER: Final = "kube-controller-manager"
API_SERVER: Final = "kube-apiserver"
OTHER_POOL: Final = "fd12:3456:789a::/48"


@plants("F01")
def cni_asks_for_ipv4_only(bench: Bench) -> Plan:
    return Plan([conflist(bench, bench.worker, "assign_ipv6", None)])


@plants("CFG-011/ipv4")
def cni_asks_for_ipv6_only(bench: Bench) -> Plan:
    return Plan([conflist(bench, bench.worker, "assign_ipv4", "false")])


@plants("F02")
def ipv6_pool_disabled(_: Bench) -> Plan:
    return Plan([pool(Family.IPV6, disabled=True)])


@plants("CFG-014/ipv4-pool")
def ipv4_pool_disabled(_: Bench) -> Plan:
    return Plan([pool(Family.IPV4, disabled=True)])


@plants("F03")
def ipv6_pool_is_another_range(bench: Bench) -> Plan:
    found = bench.kube.get(CALICO_CRD, "IPPool", POOL[Family.IPV6]) or {}
    manifest = {
        "apiVersion": CALICO_CRD,
        "kind": "IPPool",
        "metadata": {"name": POOL[Family.IPV6]},
        "spec": {**found.get("spec", {}), "cidr": OTHER_POOL},
    }
    return Plan(
        [Whole(api_version=CALICO_CRD, kind="IPPool", name=POOL[Family.IPV6], manifest=manifest)]
    )


@plants("F04")
def no_ipv6_address_for_calico(bench: Bench) -> Plan:
    node = bench.worker
    # A stored address is kept when IP6 is none (Calico 3.16), so both must go; calico-node's
    # start reads the one and the other.
    annotation = Patch(
        api_version="v1",
        kind="Node",
        name=node,
        patch={"metadata": {"annotations": {"projectcalico.org/IPv6Address": None}}},
    )

    def settled() -> bool | str:
        found = bench.kube.get("v1", "Node", node) or {}
        annotations = found["metadata"].get("annotations", {})
        return "projectcalico.org/IPv6Address" not in annotations or "the address came back"

    changes = [annotation, calico_node_on(bench, node, {"IP6": "none"})]
    return Plan(changes, settled=settled)


@plants("F06")
def kube_proxy_knows_ipv4_only(bench: Bench) -> Plan:
    def change(config: dict[str, Any]) -> None:
        config["clusterCIDR"] = str(bench.cluster.spec.pod_cidr(Family.IPV4))

    names = [
        name
        for name in ("kube-proxy", IPVS_CONFIG)
        if bench.kube.get("v1", "ConfigMap", name, SYSTEM)
    ]
    return Plan([kube_proxy_config(bench, change, name=name) for name in names])


@plants("F09")
def controller_manager_knows_ipv4_only(bench: Bench) -> Plan:
    v4 = str(bench.cluster.spec.pod_cidr(Family.IPV4))
    changed = edited(
        bench,
        bench.control_plane,
        f"{MANIFESTS}/{MANAGER}.yaml",
        (r"--cluster-cidr=\S+", f"--cluster-cidr={v4}"),
        (r"\n *- --node-cidr-mask-size-ipv6=\S+", ""),
    )

    before = _argument(bench, MANAGER, "--cluster-cidr")
    return Plan(
        [changed],
        # Not until it is ready: with nodes of two ranges it may end again and again.
        settled=lambda: _runs_with(bench, MANAGER, "--cluster-cidr", v4, ready=False),
        healed=lambda: _runs_with(bench, MANAGER, "--cluster-cidr", before),
        what="kube-controller-manager runs with the new flag",
    )


@plants("F08")
def one_service_range(bench: Bench) -> Plan:
    """As if the cluster had been made with one: the ServiceCIDR of before stays, unused."""
    flag, v4 = "--service-cluster-ip-range", str(bench.cluster.spec.service_cidr(Family.IPV4))
    changes = [
        edited(
            bench, bench.control_plane, f"{MANIFESTS}/{name}.yaml", (rf"{flag}=\S+", f"{flag}={v4}")
        )
        for name in (MANAGER, API_SERVER)
    ]
    before = _argument(bench, API_SERVER, flag)
    return Plan(
        changes,
        settled=lambda: _runs_with(bench, API_SERVER, flag, v4),
        healed=lambda: _runs_with(bench, API_SERVER, flag, before),
        what="the API server runs with the new flag",
    )


def _runs_with(
    bench: Bench, component: str, flag: str, value: str | None, *, ready: bool = True
) -> bool | str:
    held = _argument(bench, component, flag, ready=ready)
    return held == value or f"{component} runs with {flag}={held}"


def _argument(bench: Bench, component: str, flag: str, *, ready: bool = True) -> str | None:
    """A flag of a static pod; None while it is not ready."""
    for item in bench.kube.objects("v1", "Pod", SYSTEM, f"component={component}"):
        if PodView.from_api(item).ready or not ready:
            for word in item["spec"]["containers"][0]["command"]:
                if word.startswith(f"{flag}="):
                    return str(word.partition("=")[2])
    return None


@plants("F10")
def kubelet_has_ipv4_only(bench: Bench) -> Plan:
    return _node_ip(bench, bench.address(bench.worker, Family.IPV4))


@plants("R4")
def kubelet_has_the_other_order(bench: Bench) -> Plan:
    view = next(node for node in bench.nodes if node.name == bench.worker)
    return _node_ip(bench, ",".join(str(a) for a in reversed(view.internal_ips.all)))


def _node_ip(bench: Bench, wanted: str) -> Plan:
    """kubelet of the worker with another --node-ip, until the API shows it."""
    node = bench.worker
    before = next(view for view in bench.nodes if view.name == node).internal_ips
    changed = edited(bench, node, KUBELET_FLAGS, (r"--node-ip=[^ \"]+", f"--node-ip={wanted}"))
    restart = Exec(node=node, argv=("systemctl", "restart", "kubelet"))

    def now() -> str:
        view = next(view for view in bench.kube.nodes() if view.name == node)
        return ",".join(map(str, view.internal_ips.all))

    def settled() -> bool | str:
        return now() == wanted or f"the node has {now()}"

    def healed() -> bool | str:
        return now() == ",".join(map(str, before.all)) or f"the node has {now()}"

    return Plan(
        [changed.model_copy(update={"then": (restart,)})],
        settled=settled,
        healed=healed,
        what=f"node {node} has the addresses {wanted}",
    )


@plants("F11")
def ipv6_forwarding_off(bench: Bench) -> Plan:
    return Plan([Sysctl(node=bench.worker, name="net/ipv6/conf/all/forwarding", value="0")])


@plants("CFG-010/ipv4-forwarding")
def ipv4_forwarding_off(bench: Bench) -> Plan:
    return Plan([Sysctl(node=bench.worker, name="net/ipv4/ip_forward", value="0")])


@plants("F14")
def ipv6_pool_encapsulates(_: Bench) -> Plan:
    return Plan([pool(Family.IPV6, vxlanMode="Always")])


@plants("CFG-002/gate")
def gate_of_the_past(bench: Bench) -> Plan:
    def change(config: dict[str, Any]) -> None:
        config["featureGates"] = {"IPv6DualStack": True}

    # Not restarted: kube-proxy would not start with a gate that it does not know.
    return Plan([kube_proxy_config(bench, change, restart=None)])


@plants("CFG-007/mode")
def kube_proxy_in_another_mode(bench: Bench) -> Plan:
    def change(config: dict[str, Any]) -> None:
        config["mode"] = "iptables" if config.get("mode") != "iptables" else "nftables"

    return Plan([kube_proxy_config(bench, change, restart=bench.worker)])


@plants_twins("CFG-009/drop", "CFG-009/drop-ipv4")
def a_node_drops_another(bench: Bench, family: Family) -> Plan:
    a, b = bench.pair
    rule = f"{NFT[family]} saddr {bench.address(a, family)} drop"
    return Plan([nft(b, family, ("input", -10, rule))])


@plants("R3")
def nftables_dataplane_beside_ipvs(bench: Bench) -> Plan:
    changed = {"FELIX_NFTABLESMODE": "Enabled"}
    return Plan([calico_node_on(bench, ipvs_node(bench), changed, ready=False)])


@plants("CFG-013/felix")
def felix_without_ipv6(bench: Bench) -> Plan:
    return Plan([calico_node_on(bench, bench.worker, {"FELIX_IPV6SUPPORT": "false"})])
