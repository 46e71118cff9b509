"""Controls: changes under which everything must stay green."""

from __future__ import annotations

from typing import Any, Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Command, Restart
from helpers.faults.common import CALICO_CRD, CALICO_NODE, SYSTEM
from helpers.faults.objects import Whole
from helpers.faults.plans import Plan, plants

NAME: Final = "dsfault-unrelated"
SECOND: Final = "2001:db8:5ec::1/128"


@plants("B1")
def one_more_disabled_pool(_: Bench) -> Plan:
    manifest: dict[str, Any] = {
        "apiVersion": CALICO_CRD,
        "kind": "IPPool",
        "metadata": {"name": NAME},
        "spec": {
            "cidr": "fd00:10:200::/56",
            "blockSize": 122,
            "disabled": True,
            "ipipMode": "Never",
            "vxlanMode": "Never",
            "natOutgoing": False,
            "nodeSelector": "all()",
            "allowedUses": ["Workload", "Tunnel"],
            "assignmentMode": "Automatic",
        },
    }
    return Plan([Whole(api_version=CALICO_CRD, kind="IPPool", name=NAME, manifest=manifest)])


@plants("B2")
def second_address_on_loopback(bench: Bench) -> Plan:
    ip = ("ip", "-6", "addr")
    return Plan(
        [
            Command(
                node=bench.worker,
                do=(*ip, "add", SECOND, "dev", "lo"),
                undo=(*ip, "del", SECOND, "dev", "lo"),
                look=("ip", "-6", "-br", "addr", "show", "dev", "lo"),
            )
        ]
    )


@plants("B3")
def calico_node_starts_anew(bench: Bench) -> Plan:
    restart = Restart(namespace=SYSTEM, selector=CALICO_NODE, node=bench.worker)
    return Plan(steps=(restart,))


@plants("B4")
def somebody_elses_objects(_: Bench) -> Plan:
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "selector": {"app": NAME},
            "ports": [{"port": 80}],
            "ipFamilyPolicy": "PreferDualStack",
        },
    }
    policy: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    return Plan(
        [
            Whole(
                api_version=item["apiVersion"],
                kind=item["kind"],
                name=NAME,
                namespace="default",
                manifest=item,
            )
            for item in (service, policy)
        ]
    )
