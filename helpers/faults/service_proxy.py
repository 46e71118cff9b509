"""Faults of kube-proxy in ipvs mode.

Whatever is changed in the kernel by hand, kube-proxy repairs at its next look: it is frozen first.
A Service of the fault's own is there before that, so that both families have something to lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import yaml

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Change, Command, Frozen, PodExec, Restart, Sysctl
from helpers.faults.common import KUBE_PROXY, SYSTEM
from helpers.faults.objects import Patch, Whole
from helpers.faults.plans import Plan, plants
from helpers.model import FAMILIES, DualAddresses, Family
from helpers.naming import AGENT_NAMESPACE, MANAGED_BY
from helpers.service_proxy_config import GROUP_LABEL
from helpers.services import AGENT_PODS
from helpers.waiting import eventually

IPVS_CONFIG: Final = "kube-proxy-ipvs"  # ConfigMap of nodes in ipvs mode beside others
OWN: Final = "dsfault-service"
PROGRAMMED_SECONDS: Final = 30.0
SAVED: Final = "/run/dsfault-saved"


def ipvs_node(bench: Bench) -> str:
    """A node that is declared to run kube-proxy in ipvs mode.

    Raises:
        FaultError: there is none.
    """
    groups = {g.name for g in bench.cluster.spec.nodes if g.proxy_mode.value == "ipvs"}
    for node in bench.nodes:
        if node.labels.get(GROUP_LABEL) in groups:
            return node.name
    raise FaultError("no node is declared to run kube-proxy in ipvs mode")


def _own_service() -> Whole:
    """A dual-stack NodePort Service with the agents' pods as backends."""
    return Whole(
        api_version="v1",
        kind="Service",
        name=OWN,
        namespace=AGENT_NAMESPACE,
        manifest={
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": OWN, "namespace": AGENT_NAMESPACE, "labels": dict(MANAGED_BY)},
            "spec": {
                "type": "NodePort",
                "selector": dict(AGENT_PODS),
                "ipFamilyPolicy": "RequireDualStack",
                "ports": [{"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            },
        },
    )


def _cluster_ips(bench: Bench) -> DualAddresses:
    found = bench.kube.get("v1", "Service", OWN, AGENT_NAMESPACE)
    if found is None:
        raise FaultError(f"Service {AGENT_NAMESPACE}/{OWN} is gone")
    return DualAddresses.parse(found["spec"]["clusterIPs"])


def _at(bench: Bench, family: Family) -> str:
    """``address:port`` of the fault's own Service, as ipvsadm writes it."""
    address = _cluster_ips(bench).require(family)
    return f"[{address}]:80" if address.version == 6 else f"{address}:80"


def _frozen_with_own_service(bench: Bench, node: str) -> Iterator[Change]:
    """The Service, programmed with its backends in both families; then kube-proxy stands still."""
    yield _own_service()

    def programmed() -> bool:
        rules = bench.run(node, "ipvsadm", "-Sn")
        return all(f"-a -t {_at(bench, family)} " in rules for family in FAMILIES)

    eventually(programmed, bool, within=PROGRAMMED_SECONDS, what=f"{node} has the fault's Service")
    yield Frozen(node=node, command="kube-proxy")


def _shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


@plants("PRX-001/frozen")
def kube_proxy_of_the_ipvs_node_stands_still(bench: Bench) -> Plan:
    return Plan([Frozen(node=ipvs_node(bench), command="kube-proxy"), _own_service()])


@plants("PRX-001/address")
def an_address_is_taken_from_the_dummy_interface(bench: Bench) -> Plan:
    node = ipvs_node(bench)

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        address = f"{_cluster_ips(bench).require(Family.IPV6)}/128"
        yield Command(
            node=node,
            do=("ip", "-6", "addr", "del", address, "dev", "kube-ipvs0"),
            undo=("ip", "-6", "addr", "add", address, "dev", "kube-ipvs0"),
            look=_shell("ip -6 -o addr show dev kube-ipvs0 | sort"),
        )

    return Plan(changes())


@plants("PRX-002/server")
def a_virtual_server_is_deleted(bench: Bench) -> Plan:
    node = ipvs_node(bench)

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        at = _at(bench, Family.IPV6)
        rules = f"ipvsadm -Sn | grep -F -- '-t {at} '"
        yield Command(
            node=node,
            do=_shell(f"{rules} > {SAVED} && ipvsadm -D -t {at}"),
            undo=_shell(f"ipvsadm -R < {SAVED} && rm -f {SAVED}"),
            look=_shell(f"{rules} | sort"),
        )

    return Plan(changes())


@plants("PRX-002/scheduler")
def a_virtual_server_has_another_scheduler(bench: Bench) -> Plan:
    node = ipvs_node(bench)

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        at = _at(bench, Family.IPV6)
        yield Command(
            node=node,
            do=("ipvsadm", "-E", "-t", at, "-s", "sh"),
            undo=("ipvsadm", "-E", "-t", at, "-s", "rr"),
            look=_shell(f"ipvsadm -Sn | grep -F -- '-A -t {at} '"),
        )

    return Plan(changes())


@plants("PRX-003/wrong-family")
def a_real_server_is_of_the_wrong_family(bench: Bench) -> Plan:
    """IPVS takes a real server of the other family as a tunnel's end only."""
    node = ipvs_node(bench)

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        at = _at(bench, Family.IPV6)
        alien = f"{bench.address(bench.control_plane, Family.IPV4)}:80"
        yield Command(
            node=node,
            do=("ipvsadm", "-a", "-t", at, "-r", alien, "-i"),
            undo=("ipvsadm", "-d", "-t", at, "-r", alien),
            look=_shell(f"ipvsadm -Sn | grep -F -- '-a -t {at} ' | sort"),
        )

    return Plan(changes())


@plants("PRX-003/endpoints")
def kube_proxy_misses_that_endpoints_go(bench: Bench) -> Plan:
    node = ipvs_node(bench)

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        yield Patch(
            api_version="v1",
            kind="Service",
            name=OWN,
            namespace=AGENT_NAMESPACE,
            patch={"spec": {"selector": {**dict.fromkeys(AGENT_PODS), "app": "nobody"}}},
        )

    return Plan(changes())


@plants("PRX-003/conntrack")
def ipvs_is_hidden_from_conntrack(bench: Bench) -> Plan:
    return Plan([Sysctl(node=ipvs_node(bench), name="net/ipv4/vs/conntrack", value="0")])


@plants("PRX-004/flush")
def an_ipset_of_ipv6_is_empty(bench: Bench) -> Plan:
    node, name = ipvs_node(bench), "KUBE-6-CLUSTER-IP"

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        entries = f"ipset save {name} | grep ^add"
        yield Command(
            node=node,
            do=_shell(f"{entries} > {SAVED} && ipset flush {name}"),
            undo=_shell(f"ipset restore -exist < {SAVED} && rm -f {SAVED}"),
            look=_shell(f"{entries} | sort"),
        )

    return Plan(changes())


@plants("PRX-006/filter")
def host_sockets_are_shown_on_cluster_ips(bench: Bench) -> Plan:
    """The jump to KUBE-IPVS-FILTER is gone from ip6tables' INPUT."""
    node = ipvs_node(bench)
    rule = '-m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER'

    def changes() -> Iterator[Change]:
        yield from _frozen_with_own_service(bench, node)
        yield Command(
            node=node,
            do=_shell(f"ip6tables -D INPUT {rule}"),
            undo=_shell(f"ip6tables -C INPUT {rule} || ip6tables -I INPUT {rule}"),
            look=_shell("ip6tables -S INPUT | grep KUBE-IPVS-FILTER"),
        )

    return Plan(changes())


@plants("F07")
def kube_proxy_runs_another_mode(bench: Bench) -> Plan:
    """iptables instead of ipvs, and nothing of ipvs left."""
    node = ipvs_node(bench)
    found = bench.kube.get("v1", "ConfigMap", IPVS_CONFIG, SYSTEM)
    if found is None:
        raise FaultError(f"there is no ConfigMap {SYSTEM}/{IPVS_CONFIG}")
    config = yaml.safe_load(found["data"]["config.conf"])
    config["mode"] = "iptables"
    cleanup = PodExec(
        namespace=SYSTEM,
        selector=KUBE_PROXY,
        container="kube-proxy",
        argv=("/usr/local/bin/kube-proxy", "--cleanup"),
        node=node,
    )
    restart = Restart(namespace=SYSTEM, selector=KUBE_PROXY, node=node)
    return Plan(
        [
            Patch(
                api_version="v1",
                kind="ConfigMap",
                name=IPVS_CONFIG,
                namespace=SYSTEM,
                patch={"data": {"config.conf": yaml.safe_dump(config)}},
                then=(cleanup, restart),
            )
        ]
    )


@plants("PRX-009/leftover")
def an_ipset_of_ipvs_stays(bench: Bench) -> Plan:
    """One that no kube-proxy knows, so that none removes it."""
    name = "KUBE-6-DSFAULT"
    return Plan(
        [
            Command(
                node=ipvs_node(bench),
                do=("ipset", "create", name, "hash:ip", "family", "inet6"),
                undo=("ipset", "destroy", name),
                look=_shell(f"ipset list -n | grep {name}"),
            )
        ]
    )
