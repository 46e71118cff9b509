"""Faults of pod addresses: inside of pods, in Calico's IPAM, in what the CNI plugin does."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any, Final

from helpers.agents import deploy
from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Change, Command, PodCommand, Program
from helpers.faults.common import CALICO_CRD, conflist
from helpers.faults.objects import Patch, Whole
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.model import DualAddresses, Family
from helpers.naming import AGENT_NAMESPACE
from helpers.views import PodView
from helpers.waiting import eventually

IPAM_PLUGIN: Final = "/opt/cni/bin/calico-ipam"
# The plugin looks at its own name for what it is to be.
NO_RELEASE: Final = f"""#!/bin/bash
[ "$CNI_COMMAND" = DEL ] && exit 0
exec -a {IPAM_PLUGIN} {IPAM_PLUGIN}.dsfault "$@"
"""
STRAY: Final = {Family.IPV4: "192.0.0.99/32", Family.IPV6: "fd00:bad::1/128"}
POD_SECONDS: Final = 60.0


def host_interface(bench: Bench, pod: PodView) -> str:
    """The node's end of a pod's veth."""
    address = pod.addresses.require(Family.IPV4)
    words = bench.run(pod.node or "", "ip", "route", "get", str(address)).split()
    return words[words.index("dev") + 1]


@plants_twins("PODIP-006/stray-address", "PODIP-006/stray-address-ipv4")
def pod_has_a_stray_address(bench: Bench, family: Family) -> Plan:
    pod = bench.agent_pod(bench.worker)
    ip, stray = ("ip", f"-{family.version}"), STRAY[family]
    dad = ("nodad",) if family is Family.IPV6 else ()
    return Plan(
        [
            PodCommand(
                namespace=pod.namespace,
                pod=pod.name,
                do=(*ip, "addr", "add", stray, "dev", "eth0", *dad),
                undo=(*ip, "addr", "del", stray, "dev", "eth0"),
                look=(*ip, "-br", "addr", "show", "dev", "eth0", "scope", "global"),
            )
        ]
    )


@plants("PODIP-007/gateway")
def gateway_address_is_gone(bench: Bench) -> Plan:
    pod = bench.agent_pod(bench.worker)
    device = host_interface(bench, pod)
    look = ("ip", "-6", "-br", "addr", "show", "dev", device, "scope", "link")
    addresses = [w for w in bench.run(bench.worker, *look).split() if w.startswith("fe80:")]
    if not addresses:
        raise FaultError(f"{device} has no link-local address")
    ip = ("ip", "-6", "addr")
    return Plan(
        [
            Command(
                node=bench.worker,
                do=(*ip, "del", addresses[0], "dev", device),
                undo=(*ip, "add", addresses[0], "dev", device, "nodad"),
                look=look,
            )
        ]
    )


@plants("PODIP-008/hosts")
def hosts_file_lacks_an_address(bench: Bench) -> Plan:
    """Written in place: kubelet mounts the file into the container, and never looks again."""
    pod = bench.agent_pod(bench.worker)
    address = pod.addresses.require(Family.IPV6)
    hosts, saved = "/etc/hosts", "/tmp/dsfault-hosts"  # noqa: S108  # in the container
    return Plan(
        [
            PodCommand(
                namespace=pod.namespace,
                pod=pod.name,
                do=("sh", "-c", f"cp {hosts} {saved} && grep -v '^{address}' {saved} > {hosts}"),
                undo=("sh", "-c", f"test ! -e {saved} || {{ cat {saved} > {hosts}; rm {saved}; }}"),
                look=("cat", hosts),
            )
        ]
    )


@plants_twins("PODIP-010/lost-allocation", "PODIP-010/lost-allocation-ipv4")
def allocation_is_lost(bench: Bench, family: Family) -> Plan:
    pod = bench.agent_pod(bench.worker)
    address = pod.addresses.require(family)
    for block in bench.kube.calico("IPAMBlock"):
        network = block["spec"]["cidr"]
        if Family.of(network) is not family or address not in ip_network(network):
            continue
        ordinal = int(address) - int(ip_network(network).network_address)
        allocations = list(block["spec"]["allocations"])
        allocations[ordinal] = None
        name = block["metadata"]["name"]
        spec: dict[str, Any] = {"allocations": allocations}
        spec["unallocated"] = [*block["spec"]["unallocated"], ordinal]
        return Plan(
            [Patch(api_version=CALICO_CRD, kind="IPAMBlock", name=name, patch={"spec": spec})]
        )
    raise FaultError(f"no block has {address}")


@plants("PODIP-005/twin")
def two_pods_share_an_address(bench: Bench) -> Plan:
    """A pod that is given another's address past IPAM (ipAddrsNoIpam), both made for it."""
    a, b = bench.pair

    def changes() -> Iterator[Change]:
        features = {"ip_addrs_no_ipam": True}
        yield conflist(bench, b, "feature_control", features, ipam=False)
        yield _pod(bench, "dsfault-first", a, {})
        first = _addresses(bench, "dsfault-first")
        shared = first.require(Family.IPV6)
        pinned = f'["10.255.255.254", "{shared}"]'
        yield _pod(bench, "dsfault-twin", b, {"cni.projectcalico.org/ipAddrsNoIpam": pinned})
        _addresses(bench, "dsfault-twin")

    return Plan(changes())


def _pod(bench: Bench, name: str, node: str, annotations: dict[str, str]) -> Whole:
    manifest = deploy.agent_pod(
        AGENT_NAMESPACE,
        name,
        image=bench.cluster.agent_image,
        pull_policy=bench.cluster.agent_image_pull_policy,
        node=node,
        annotations=annotations,
    )
    return Whole(
        api_version="v1", kind="Pod", name=name, namespace=AGENT_NAMESPACE, manifest=manifest
    )


def _addresses(bench: Bench, name: str) -> DualAddresses:
    def look() -> DualAddresses:
        found = bench.kube.get("v1", "Pod", name, AGENT_NAMESPACE)
        return PodView.from_api(found).addresses if found else DualAddresses(())

    return eventually(
        look,
        lambda held: len(held.all) == 2,
        within=POD_SECONDS,
        what=f"pod {name} has its addresses",
    )


@plants("R1")
def deletion_releases_nothing(bench: Bench) -> Plan:
    return Plan([Program(node=bench.worker, path=IPAM_PLUGIN, script=NO_RELEASE)])
