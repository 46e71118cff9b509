"""Pods and Services that a test makes for itself, in a namespace of its own.

The namespace goes when the test ends; nobody waits for it. Pods run the agent, so every one of
them answers TCP and UDP echo in both families and can be asked to probe.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.agents import deploy
from helpers.kube import ApiError, Kube, Object
from helpers.model import FAMILIES, DualAddresses, Family
from helpers.naming import MANAGED_BY, PREFIX
from helpers.verdicts import Blocked, Inconclusive
from helpers.views import PodView
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from clusters.api import Cluster
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool

PODS_WITHIN = 60.0  # seconds for all pods of one call to be Ready
DUAL_STACK = "RequireDualStack"


@dataclass(frozen=True, slots=True)
class ServiceView:
    """What the API says of one Service."""

    namespace: str
    name: str
    cluster_ips: DualAddresses
    families: tuple[Family, ...]
    policy: str
    ports: Mapping[str, int]  # port name -> port
    node_ports: Mapping[str, int]
    raw: Mapping[str, Any]

    @classmethod
    def from_api(cls, service: Mapping[str, Any]) -> ServiceView:
        spec = service["spec"]
        ports = spec.get("ports", [])
        cluster_ips = [ip for ip in spec.get("clusterIPs", []) if ip != "None"]
        return cls(
            namespace=service["metadata"]["namespace"],
            name=service["metadata"]["name"],
            cluster_ips=DualAddresses.parse(cluster_ips),
            families=tuple(Family(f.lower()) for f in spec.get("ipFamilies", [])),
            policy=spec.get("ipFamilyPolicy", ""),
            ports={p.get("name", str(p["port"])): p["port"] for p in ports},
            node_ports={
                p.get("name", str(p["port"])): p["nodePort"] for p in ports if "nodePort" in p
            },
            raw=service,
        )


def tcp_port(port: int = 80, target: int = deploy.POD_PORT, name: str = "tcp") -> Object:
    return {"name": name, "protocol": "TCP", "port": port, "targetPort": target}


def udp_port(port: int = 80, target: int = deploy.POD_PORT, name: str = "udp") -> Object:
    return {"name": name, "protocol": "UDP", "port": port, "targetPort": target}


class Workloads:
    """A test's own namespace.

    Args:
        kube: access to the cluster.
        cluster: whose agent image the pods run.
        agents: opens agents in the pods that are made.
        slug: part of the namespace's name, e.g. the requirement's id.
    """

    def __init__(self, kube: Kube, cluster: Cluster, agents: AgentPool, slug: str) -> None:
        self.kube = kube
        self.cluster = cluster
        self.agents = agents
        self.namespace = f"{PREFIX}-{slug}-{uuid.uuid4().hex[:6]}".lower()
        self._numbers = itertools.count(1)
        self._made = False
        self._elsewhere: list[tuple[str, str]] = []  # Services in other namespaces

    # -- namespace --------------------------------------------------------------------------

    def ensure_namespace(self) -> None:
        """Make the namespace now: several threads may then make pods in it."""
        if self._made:
            return
        self.kube.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {
                        "name": self.namespace,
                        "labels": {
                            **MANAGED_BY,
                            "pod-security.kubernetes.io/enforce": "privileged",
                        },
                    },
                },
                deploy.agent_config_map(self.namespace),
            ]
        )
        self._made = True
        # A pod is refused until the namespace's service account exists.
        eventually(
            lambda: self.kube.get("v1", "ServiceAccount", "default", self.namespace),
            lambda account: account is not None,
            within=20,
            every=0.1,
            describe=lambda account: "present" if account else "absent",
        )

    def close(self) -> None:
        """Close the agents in this namespace and delete all that was made, in the background."""
        self.agents.release(self.namespace)
        for namespace, name in self._elsewhere:
            self.kube.delete("v1", "Service", name, namespace)
        if self._made:
            self.kube.delete("v1", "Namespace", self.namespace)

    # -- pods -------------------------------------------------------------------------------

    def create_pod(
        self,
        node: str | None,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        host_network: bool = False,
        mutate: Callable[[Object], None] | None = None,
    ) -> str:
        """Create one pod without waiting for it; returns its name."""
        self.ensure_namespace()
        name = name or f"pod-{next(self._numbers)}"
        pod = deploy.agent_pod(
            self.namespace,
            name,
            image=self.cluster.agent_image,
            pull_policy=self.cluster.agent_image_pull_policy,
            node=node,
            labels={**MANAGED_BY, "app": "backend", **(labels or {})},
            annotations=dict(annotations or {}),
            host_network=host_network,
        )
        if mutate:
            mutate(pod)
        self.kube.create(pod)
        return name

    def pods(
        self,
        nodes: Sequence[str],
        *,
        families: Iterable[Family] = FAMILIES,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        host_network: bool = False,
        mutate: Callable[[Object], None] | None = None,
        within: float = PODS_WITHIN,
    ) -> list[PodView]:
        """Create one pod on each of ``nodes`` and wait until all are Ready.

        Args:
            nodes: node names; a name may come more than once.
            families: families that each pod must have an address of.

        Raises:
            Blocked: by PODIP-002, when a pod lacks an address of a needed family.
            Inconclusive: the pods have their addresses and still do not become Ready.
        """
        names = [
            self.create_pod(
                node,
                labels=labels,
                annotations=annotations,
                host_network=host_network,
                mutate=mutate,
            )
            for node in nodes
        ]
        return self.wait_pods(names, families=families, within=within)

    def wait_pods(
        self,
        names: Sequence[str],
        *,
        families: Iterable[Family] = FAMILIES,
        within: float = PODS_WITHIN,
    ) -> list[PodView]:
        """Wait until the named pods are Ready; see ``pods`` for what it raises."""

        def observe() -> list[PodView]:
            found = {pod.name: pod for pod in self.kube.pods(self.namespace)}
            return [found[name] for name in names if name in found]

        try:
            ready = eventually(
                observe,
                lambda pods: len(pods) == len(names) and all(p.ready and p.pod_ips for p in pods),
                within=within,
                every=0.3,
                describe=_describe_pods,
            )
        except NotSettled as error:
            raise self._why_not_ready(observe(), families, error) from error
        for pod in ready:
            for family in families:
                if pod.address(family) is None:
                    raise Blocked(
                        "PODIP-002", f"new pod on {pod.node} got only {pod.pod_ips}", family
                    )
        return ready

    def _why_not_ready(
        self, pods: list[PodView], families: Iterable[Family], error: NotSettled
    ) -> Blocked | Inconclusive:
        stuck = [pod for pod in pods if not pod.ready]
        without = [
            pod for pod in stuck if not pod.pod_ips or any(pod.address(f) is None for f in families)
        ]
        if without:
            why = self.last_warning(without[0].name) or without[0].waiting or "no event"
            return Blocked("PODIP-002", f"new pods on {without[0].node} get no address: {why}")
        return Inconclusive(f"pods of the test did not become Ready: {error}")

    def last_warning(self, pod: str) -> str | None:
        """Message of the newest Warning event of a pod."""
        events = self.kube.objects(
            "v1",
            "Event",
            self.namespace,
            field_selector=f"involvedObject.name={pod},type=Warning",
        )
        newest = max(events, key=_event_time, default=None)
        return str(newest.get("message", "")) if newest else None

    def agent(self, pod: PodView) -> Agent:
        """The agent in one of the test's pods."""
        return self.agents.for_pod(pod.namespace, pod.name)

    def delete_pod(self, name: str, *, grace_seconds: int | None = None) -> None:
        self.kube.delete("v1", "Pod", name, self.namespace, grace_seconds=grace_seconds)

    # -- services ---------------------------------------------------------------------------

    def service(
        self,
        name: str | None = None,
        *,
        selector: Mapping[str, str] | None = None,
        ports: Sequence[Object] | None = None,
        policy: str | None = DUAL_STACK,
        families: Sequence[Family] | None = None,
        namespace: str | None = None,
        refusal_fails: bool = False,
        **spec: Any,
    ) -> ServiceView:
        """Create a Service (TCP and UDP echo by default) and return what the API made of it.

        Args:
            selector: pods it selects; default the test's own backends.
            policy: ipFamilyPolicy; None leaves the field out.
            families: ipFamilies in order; None leaves the field out.
            namespace: where it is made; default the test's own (a selector never crosses one).
            refusal_fails: let the API's refusal of a family through as ApiError, for the
                requirements that judge just that (SVC-001, SVC-002, SVC-004).
            spec: further fields of Service.spec, camelCase, e.g. ``type="NodePort"``.

        Raises:
            Blocked: by CFG-004, when the API refuses two families (no service range for one).
        """
        namespace = namespace or self.namespace
        if namespace == self.namespace:
            self.ensure_namespace()
        manifest: Object = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                # A shared namespace holds the Services of many tests: the name is unique there too.
                "name": name or f"{self.namespace}-{next(self._numbers)}",
                "namespace": namespace,
                "labels": dict(MANAGED_BY),
            },
            "spec": {
                "selector": dict(selector if selector is not None else {"app": "backend"}),
                "ports": list(ports or [tcp_port(), udp_port()]),
                **spec,
            },
        }
        if policy:
            manifest["spec"]["ipFamilyPolicy"] = policy
        if families:
            manifest["spec"]["ipFamilies"] = [family.kubernetes for family in families]
        try:
            view = ServiceView.from_api(self.kube.create(manifest))
        except ApiError as error:
            if refusal_fails or not refused_family(error):
                raise
            raise Blocked("CFG-004", error.message) from error
        if view.namespace != self.namespace:
            self._elsewhere.append((view.namespace, view.name))
        return view

    def read_service(self, name: str) -> ServiceView:
        found = self.kube.get("v1", "Service", name, self.namespace)
        if found is None:
            raise LookupError(f"Service {self.namespace}/{name} is gone")
        return ServiceView.from_api(found)


def refused_family(error: ApiError) -> bool:
    """True when the API refused a Service because a family has no service range (CFG-004)."""
    said = ("not configured on this cluster", "not configured for dual-stack services")
    return error.status == 422 and any(text in error.message for text in said)


def _event_time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _describe_pods(pods: list[PodView]) -> str:
    states = [
        f"{p.name}: {'Ready' if p.ready else p.waiting or p.phase} {list(p.pod_ips)}" for p in pods
    ]
    return json.dumps(states) if states else "no pods yet"
