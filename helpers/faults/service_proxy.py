"""Faults of kube-proxy in ipvs mode.

Whatever is changed in the kernel by hand, kube-proxy repairs at its next look: it is frozen first.
A Service of the fault's own is there before that, so that both families have something to lose.
"""

from __future__ import annotations

from typing import Any, Final

from helpers.agents.deploy import NODE_PORT
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import (
    Change,
    Command,
    Exec,
    Frozen,
    NftTable,
    Restart,
    Rule,
    Sysctl,
    signalling,
)
from helpers.faults.common import IPVS_CONFIG, KUBE_PROXY, SYSTEM, kube_proxy_config
from helpers.faults.objects import Patch, Whole
from helpers.faults.plans import Plan, plants
from helpers.model import FAMILIES, Family
from helpers.naming import AGENT_NAMESPACE, MANAGED_BY
from helpers.service_proxy_config import GROUP_LABEL
from helpers.services import AGENT_PODS

OWN: Final = "dsfault-service"
# In the lower parts of the ranges, which the API gives out only when asked for them.
CLUSTER_IP: Final = 253
NODE_PORT_OF_OWN: Final = 30077
SAVED: Final = "/run/dsfault-saved"


def ipvs_node(bench: Bench) -> str:
    """A node that is declared to run kube-proxy in ipvs mode.

    Raises:
        FaultError: there is none.
    """
    for node in ipvs_nodes(bench):
        return node
    raise FaultError("no node is declared to run kube-proxy in ipvs mode")


def ipvs_nodes(bench: Bench) -> list[str]:
    """All nodes that are declared to run kube-proxy in ipvs mode."""
    groups = {g.name for g in bench.cluster.spec.nodes if g.proxy_mode.value == "ipvs"}
    return [node.name for node in bench.nodes if node.labels.get(GROUP_LABEL) in groups]


def _cluster_ip(bench: Bench, family: Family) -> str:
    """Of the fault's own Service: in the part of the range that the API gives out to nobody."""
    return str(bench.cluster.spec.service_cidr(family)[CLUSTER_IP])


def _own_service(bench: Bench) -> Whole:
    """A dual-stack NodePort Service with the agents' pods as backends."""
    port = {"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": 8080}
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
                "ipFamilies": [family.kubernetes for family in FAMILIES],
                "clusterIP": _cluster_ip(bench, FAMILIES[0]),
                "clusterIPs": [_cluster_ip(bench, family) for family in FAMILIES],
                "ports": [{**port, "nodePort": NODE_PORT_OF_OWN}],
            },
        },
    )


def _at(bench: Bench, family: Family) -> str:
    """``address:port`` of the fault's own Service, as ipvsadm writes it."""
    return _server(_cluster_ip(bench, family), 80)


def _server(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _frozen_with_own_service(bench: Bench, node: str) -> list[Change]:
    """The Service, programmed with its backends in both families; then kube-proxy stands still.

    Its addresses are fixed, so that it and the standstill are the same change for several faults.
    """
    tests = [f"echo \"$rules\" | grep -qF -- '-a -t {_at(bench, family)} '" for family in FAMILIES]
    # The entries of the ipsets come last.
    tests.append(f"ipset test KUBE-6-CLUSTER-IP {_cluster_ip(bench, Family.IPV6)},tcp:80 2>&1")
    done = _shell(f"rules=$(ipvsadm -Sn) && {' && '.join(tests)}")
    return [_own_service(bench), Frozen(node=node, command="kube-proxy", once=done)]


def _shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


@plants("F24")
def kube_proxy_stands_still(bench: Bench) -> Plan:
    """That of the worker, and that of a node in ipvs mode; then a Service is made."""
    nodes = dict.fromkeys([bench.worker, *ipvs_nodes(bench)[:1]])
    return Plan([*(Frozen(node=node, command="kube-proxy") for node in nodes), _own_service(bench)])


@plants("PRX-001/address")
def an_address_is_taken_from_the_dummy_interface(bench: Bench) -> Plan:
    node = ipvs_node(bench)
    address = f"{_cluster_ip(bench, Family.IPV6)}/128"
    gone = Command(
        node=node,
        do=("ip", "-6", "addr", "del", address, "dev", "kube-ipvs0"),
        undo=("ip", "-6", "addr", "add", address, "dev", "kube-ipvs0"),
        look=_shell("ip -6 -o addr show dev kube-ipvs0 | sort"),
    )
    return Plan([*_frozen_with_own_service(bench, node), gone])


@plants("PRX-002/server")
def a_virtual_server_is_deleted(bench: Bench) -> Plan:
    node, at = ipvs_node(bench), _at(bench, Family.IPV6)
    rules, saved = f"ipvsadm -Sn | grep -F -- '-t {at} '", f"{SAVED}-server"
    deleted = Command(
        node=node,
        do=_shell(f"{rules} > {saved} && ipvsadm -D -t {at}"),
        undo=_shell(f"ipvsadm -R < {saved} && rm -f {saved}"),
        look=_shell(f"{rules} | sort"),
    )
    return Plan([*_frozen_with_own_service(bench, node), deleted])


@plants("PRX-002/scheduler")
def a_virtual_server_has_another_scheduler(bench: Bench) -> Plan:
    node, at = ipvs_node(bench), _at(bench, Family.IPV4)
    changed = Command(
        node=node,
        do=("ipvsadm", "-E", "-t", at, "-s", "sh"),
        undo=("ipvsadm", "-E", "-t", at, "-s", "rr"),
        look=_shell(f"ipvsadm -Sn | grep -F -- '-A -t {at} '"),
    )
    return Plan([*_frozen_with_own_service(bench, node), changed])


@plants("PRX-003/wrong-family")
def a_real_server_is_of_the_wrong_family(bench: Bench) -> Plan:
    """IPVS takes a real server of the other family as a tunnel's end only, at the same port."""
    node = ipvs_node(bench)
    at = _server(bench.address(node, Family.IPV6), NODE_PORT_OF_OWN)
    alien = _server(bench.address(bench.control_plane, Family.IPV4), NODE_PORT_OF_OWN)
    added = Command(
        node=node,
        do=("ipvsadm", "-a", "-t", at, "-r", alien, "-i"),
        undo=("ipvsadm", "-d", "-t", at, "-r", alien),
        look=_shell(f"ipvsadm -Sn | grep -F -- '-a -t {at} ' | sort"),
    )
    return Plan([*_frozen_with_own_service(bench, node), added])


@plants("PRX-003/endpoints")
def kube_proxy_misses_that_endpoints_go(bench: Bench) -> Plan:
    gone = Patch(
        api_version="v1",
        kind="Service",
        name=OWN,
        namespace=AGENT_NAMESPACE,
        patch={"spec": {"selector": {**dict.fromkeys(AGENT_PODS), "app": "nobody"}}},
    )
    return Plan([*_frozen_with_own_service(bench, ipvs_node(bench)), gone])


@plants("PRX-003/expiry")
def ipvs_keeps_connections_to_nobody(bench: Bench) -> Plan:
    # Not net/ipv4/vs/conntrack: without it Felix drops all that IPVS translates, and not even the
    # CNI plugin of the node reaches the API any more.
    name = "net/ipv4/vs/expire_nodest_conn"
    return Plan([Sysctl(node=ipvs_node(bench), name=name, value="0")])


@plants("PRX-004/flush")
def an_ipset_of_ipv6_is_empty(bench: Bench) -> Plan:
    node, name, saved = ipvs_node(bench), "KUBE-6-CLUSTER-IP", f"{SAVED}-ipset"
    entries = f"ipset save {name} | grep ^add"
    flushed = Command(
        node=node,
        do=_shell(f"{entries} > {saved} && ipset flush {name}"),
        undo=_shell(f"ipset restore -exist < {saved} && rm -f {saved}"),
        look=_shell(f"{entries} | sort"),
    )
    return Plan([*_frozen_with_own_service(bench, node), flushed])


@plants("PRX-006/exposed")
def host_sockets_show_on_cluster_ips(bench: Bench) -> Plan:
    """What a node is asked on a clusterIP and the node agent's TCP port, the node itself answers.

    KUBE-IPVS-FILTER is left alone: kube-proxy repairs it, and must go on for the test's Services.
    """
    node = (ipvs_nodes(bench) or [bench.worker])[0]
    services = bench.cluster.spec.service_cidr(Family.IPV6)
    own = bench.address(node, Family.IPV6)
    rule = f"ip6 daddr {services} tcp dport {NODE_PORT} dnat to {own}"
    hooks = ("prerouting", "output")
    rules = tuple(Rule(hook=hook, priority=-110, type="nat", rule=rule) for hook in hooks)
    return Plan([NftTable(node=node, family=Family.IPV6, rules=rules)])


@plants("F07")
def kube_proxy_runs_another_mode(bench: Bench) -> Plan:
    """iptables instead of ipvs, and nothing of ipvs left."""
    node = ipvs_node(bench)
    # By hand: `kube-proxy --cleanup` ends with an error while chains of ipvs mode use its others,
    # and leaves ipvs alone where modprobe knows no ip_vs (a kernel without modules). Frozen first:
    # what is gone kube-proxy would program again before it ends.
    gone = (
        "ipvsadm -C; ip link del kube-ipvs0; "
        "for set in $(ipset list -n | grep ^KUBE-); do ipset flush $set; done; true"
    )
    steps = (
        signalling(node, "kube-proxy", "STOP"),
        Exec(node=node, argv=_shell(gone)),
        Restart(namespace=SYSTEM, selector=KUBE_PROXY, node=node),
    )

    def change(config: dict[str, Any]) -> None:
        config["mode"] = "iptables"

    changed = kube_proxy_config(bench, change, name=IPVS_CONFIG, restart=None)
    return Plan([changed.model_copy(update={"then": steps})])


@plants("PRX-010/frozen")
def kube_proxy_follows_nothing(bench: Bench) -> Plan:
    return Plan([Frozen(node=ipvs_node(bench), command="kube-proxy")])


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
