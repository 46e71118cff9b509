"""Faults of Services: kube-proxy, the cluster's DNS, EndpointSlices."""

from __future__ import annotations

from typing import Any, Final

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import Restart
from helpers.faults.common import SYSTEM, kube_proxy_config
from helpers.faults.objects import Patch, Whole
from helpers.faults.plans import Plan, plants, plants_twins
from helpers.model import Family

NO_AAAA: Final = """template ANY AAAA . {
        rcode NXDOMAIN
    }
    """
DEAD: Final = {Family.IPV4: "10.255.255.253", Family.IPV6: "fd00:bad::253"}


@plants("F23")
def dns_suppresses_ipv6(bench: Bench) -> Plan:
    found = bench.kube.get("v1", "ConfigMap", "coredns", SYSTEM)
    if found is None:
        raise FaultError("there is no ConfigMap kube-system/coredns")
    corefile = found["data"]["Corefile"]
    changed = corefile.replace("kubernetes cluster.local", NO_AAAA + "kubernetes cluster.local", 1)
    if changed == corefile:
        raise FaultError("the Corefile has no kubernetes plugin for cluster.local")
    return Plan(
        [
            Patch(
                api_version="v1",
                kind="ConfigMap",
                name="coredns",
                namespace=SYSTEM,
                patch={"data": {"Corefile": changed}},
                then=(Restart(namespace=SYSTEM, selector="k8s-app=kube-dns"),),
            )
        ]
    )


@plants("R5")
def node_ports_on_ipv4_only(bench: Bench) -> Plan:
    worker = bench.worker

    def change(config: dict[str, Any]) -> None:
        config["nodePortAddresses"] = [f"{bench.address(worker, Family.IPV4)}/32"]

    return Plan([kube_proxy_config(bench, change)])


@plants_twins("SVC-006/stray-slice-ipv6", "SVC-006/stray-slice")
def a_slice_names_a_dead_endpoint(_: Bench, family: Family) -> Plan:
    name = f"dsfault-stray-{family}"
    manifest: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": SYSTEM,
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": family.kubernetes,
        # A port that the Service does not have: nobody is sent there, DNS goes on.
        "endpoints": [{"addresses": [DEAD[family]], "conditions": {"ready": True}}],
        "ports": [{"name": "nowhere", "port": 9, "protocol": "TCP"}],
    }
    return Plan(
        [
            Whole(
                api_version="discovery.k8s.io/v1",
                kind="EndpointSlice",
                name=name,
                namespace=SYSTEM,
                manifest=manifest,
            )
        ]
    )
