"""Services of every kind that ipvs treats in a way of its own, all with a backend on every node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helpers.agents import deploy
from helpers.model import FAMILIES, Family
from helpers.naming import AGENT_NAMESPACE
from helpers.once import once
from helpers.service_external import give_ingress
from helpers.services import AGENT_PODS, PREFER, SINGLE
from helpers.workloads import tcp_port, udp_port

if TYPE_CHECKING:
    from helpers.workloads import ServiceView, Workloads

Options = Mapping[str, Any]
ORDERS: Final = (FAMILIES, FAMILIES[::-1])
NOBODY: Final = {"app": "nobody"}
# Addresses of helpers.service_external.RANGES that are not drawn there.
EXTERNAL: Final = ("203.0.113.201", "3fff:0:51::201")
BALANCER: Final = ("203.0.113.202", "3fff:0:51::202")
SOURCES: Final = ("198.51.100.0/24", "2001:db8:51::/64")


def _local(**options: Any) -> Options:
    return {"type": "NodePort", "externalTrafficPolicy": "Local", **options}


def _affinity(**options: Any) -> Options:
    return {"sessionAffinity": "ClientIP", **options}


def _sctp(name: str = "sctp") -> dict[str, Any]:
    return {"name": name, "protocol": "SCTP", "port": 80, "targetPort": deploy.POD_PORT}


KINDS: Final[Mapping[str, Options]] = {
    "IPv4 first": {"families": ORDERS[0]},
    "IPv6 first": {"families": ORDERS[1]},
    "IPv4 only": {"policy": SINGLE, "families": [Family.IPV4]},
    "IPv6 only": {"policy": SINGLE, "families": [Family.IPV6]},
    "headless": {"clusterIP": "None"},
    "headless IPv6": {"policy": SINGLE, "families": [Family.IPV6], "clusterIP": "None"},
    "NodePort": {"type": "NodePort", "families": ORDERS[0]},
    "NodePort, IPv6 first": {"type": "NodePort", "families": ORDERS[1]},
    "NodePort IPv4 only": {"type": "NodePort", "policy": SINGLE, "families": [Family.IPV4]},
    "NodePort IPv6 only": {"type": "NodePort", "policy": SINGLE, "families": [Family.IPV6]},
    "affinity": _affinity(),
    "affinity of 600 s": _affinity(
        type="NodePort", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}}
    ),
    "external policy Local": _local(),
    "internal policy Local": {"internalTrafficPolicy": "Local"},
    "both policies Local": _local(internalTrafficPolicy="Local"),
    "no endpoints": {"selector": NOBODY},
    "NodePort without endpoints": {"type": "NodePort", "selector": NOBODY},
    "Local without endpoints": _local(selector=NOBODY),
    "UDP": {"ports": [udp_port(53)]},
    "named ports": {
        "ports": [
            {"name": "one", "protocol": "TCP", "port": 81, "targetPort": "echo-tcp"},
            {"name": "two", "protocol": "UDP", "port": 81, "targetPort": "echo-udp"},
            tcp_port(82, name="three"),
        ]
    },
    "SCTP": {"type": "NodePort", "ports": [_sctp()]},
    "externalIPs": {"externalIPs": list(EXTERNAL)},
    "load balancer": {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": list(SOURCES),
    },
}


def make(workloads: Workloads, options: Options) -> ServiceView:
    """One Service; dual-stack as far as the cluster is, unless its options say otherwise."""
    wanted = {"selector": AGENT_PODS, "policy": PREFER, **options}
    made = workloads.service(namespace=AGENT_NAMESPACE, **wanted)
    if options.get("type") == "LoadBalancer":
        give_ingress(workloads.kube, made, BALANCER)
    return made


Wrong = Mapping[Family, Sequence[str]]


def come_and_go(
    state: Path, workloads: Workloads, wrong: Callable[[str], Wrong]
) -> dict[Family, list[str]]:
    """Make Services of all kinds, delete every second one, make these again, delete all.

    Both families are judged by the same Services, so this is done once per run.

    Args:
        wrong: what is wrong in each family, asked after each of these steps with a word for it.

    Returns:
        All that was wrong after the first step that left anything, by family.
    """

    def compute() -> dict[str, list[str]]:
        for step in _steps(workloads):
            texts = wrong(step)
            found = {f.value: [f"{step}: {text}" for text in texts[f]] for f in FAMILIES}
            if any(found.values()):
                return found
        return {family.value: [] for family in FAMILIES}

    return {Family(name): texts for name, texts in once(state, "ipvs-variety", compute).items()}


def _steps(workloads: Workloads) -> Iterator[str]:
    made = {kind: make(workloads, options) for kind, options in KINDS.items()}
    yield f"{len(made)} Services made"
    second = list(KINDS)[1::2]
    _delete(workloads, [made[kind] for kind in second])
    yield f"{len(second)} of them deleted"
    made |= {kind: make(workloads, KINDS[kind]) for kind in second}
    yield "made again"
    _delete(workloads, list(made.values()))
    yield "all deleted"


def _delete(workloads: Workloads, services: list[ServiceView]) -> None:
    for service in services:
        workloads.kube.delete("v1", "Service", service.name, service.namespace)
