"""Services as the tests see them: EndpointSlices as views, who the clients are, and judgements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from helpers.agents import deploy
from helpers.findings import listed
from helpers.gates import pod_address
from helpers.kube import ApiError
from helpers.model import Family, IPAddress, IPNetwork
from helpers.naming import AGENT_NAMESPACE
from helpers.plan import Answered
from helpers.probes import Outcome
from helpers.verdicts import Blocked, Inconclusive
from helpers.views import PodView

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.kube import Kube
    from helpers.workloads import ServiceView, Workloads

# The agents' own pods are backends of the tests' Services: one on each node, always there.
AGENT_PODS: Final = {deploy.ROLE: deploy.POD_AGENTS}
SERVICE_NAME: Final = "kubernetes.io/service-name"  # label of an EndpointSlice (KEP-752)
SINGLE: Final = "SingleStack"
PREFER: Final = "PreferDualStack"
REQUIRE: Final = "RequireDualStack"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of an EndpointSlice. Unset conditions are read as the API defines them."""

    addresses: tuple[IPAddress, ...]
    ready: bool
    serving: bool
    terminating: bool
    node: str | None
    pod: str | None

    @classmethod
    def from_api(cls, endpoint: Mapping[str, Any]) -> Endpoint:
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready")
        serving = conditions.get("serving")
        return cls(
            addresses=tuple(ip_address(a) for a in endpoint.get("addresses") or []),
            ready=ready is not False,  # "nil should be interpreted as true" (discovery/v1)
            serving=ready is not False if serving is None else bool(serving),
            terminating=bool(conditions.get("terminating")),
            node=endpoint.get("nodeName"),
            pod=(endpoint.get("targetRef") or {}).get("name"),
        )


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """One EndpointSlice."""

    namespace: str
    name: str
    service: str
    address_type: str
    endpoints: tuple[Endpoint, ...]
    ports: Mapping[str, tuple[str, int | None]]  # name -> protocol, port
    version: str

    @classmethod
    def from_api(cls, item: Mapping[str, Any]) -> EndpointSlice:
        meta = item["metadata"]
        ports = {
            p.get("name") or "": (p.get("protocol") or "TCP", p.get("port"))
            for p in item.get("ports") or []
        }
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            service=(meta.get("labels") or {}).get(SERVICE_NAME, ""),
            address_type=item["addressType"],
            endpoints=tuple(Endpoint.from_api(e) for e in item.get("endpoints") or []),
            ports=ports,
            version=meta.get("resourceVersion", ""),
        )

    def of(self, family: Family) -> bool:
        return self.address_type == family.kubernetes

    @property
    def ready_addresses(self) -> frozenset[IPAddress]:
        return frozenset(a for e in self.endpoints if e.ready for a in e.addresses)


def endpoint_slices(kube: Kube, namespace: str, service: str) -> list[EndpointSlice]:
    """All EndpointSlices of a Service, whoever made them: kube-proxy asks no more than that."""
    found = kube.objects(
        "discovery.k8s.io/v1", "EndpointSlice", namespace, f"{SERVICE_NAME}={service}"
    )
    return [EndpointSlice.from_api(item) for item in found]


def selected(kube: Kube, service: ServiceView) -> list[PodView]:
    """The pods that a Service's selector names, ready or not."""
    labels = service.raw["spec"].get("selector") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return kube.pods(service.namespace, selector) if labels else []


def ready_addresses(slices: Iterable[EndpointSlice], family: Family) -> frozenset[IPAddress]:
    """Addresses that are ready in the slices of one family."""
    return frozenset[IPAddress]().union(*(s.ready_addresses for s in slices if s.of(family)))


def pod_addresses(pods: Iterable[PodView], family: Family) -> frozenset[IPAddress]:
    """Addresses of the pods that are ready and stay."""
    return frozenset(
        address
        for pod in pods
        if pod.ready and not pod.deleting
        for address in pod.addresses.all
        if Family.of(address) is family
    )


def slice_findings(
    label: str,
    families: Collection[Family],
    slices: Sequence[EndpointSlice],
    pods: Sequence[PodView],
    family: Family,
) -> list[str]:
    """SVC-006: slices of a family hold exactly the ready pods' addresses of it, never mixed.

    Args:
        label: ``namespace/name`` of the Service.
        families: its ipFamilies.
        slices: all its slices.
        pods: the pods that it selects.

    Source: KEP-752 (one addressType per slice), KEP-563 (one set of slices per family).
    """
    found = []
    mine = [one for one in slices if one.of(family)]
    for one in mine:
        alien = [a for e in one.endpoints for a in e.addresses if Family.of(a) is not family]
        if alien:
            found.append(
                f"EndpointSlice {one.namespace}/{one.name} of Service {label} has addressType "
                f"{one.address_type} and holds {listed(alien)}: families are mixed in one slice; "
                "whoever writes it must make one slice per family"
            )
    if family not in families:
        found += [
            f"Service {label} is {listed(f.kubernetes for f in families)} only, but EndpointSlice "
            f"{one.namespace}/{one.name} of addressType {one.address_type} is labelled for it: "
            "delete the slice"
            for one in mine
        ]
        return found
    seen, wanted = ready_addresses(mine, family), pod_addresses(pods, family)
    for address in sorted(seen - wanted, key=int):
        holders = [one.name for one in mine if address in one.ready_addresses]
        found.append(
            f"Service {label}: {address} is ready in EndpointSlice {listed(holders)}, but no ready "
            f"pod has it: clients over {family.kubernetes} are sent to a dead address; delete the "
            "slice if it was made by hand, else look at kube-controller-manager"
        )
    for address in sorted(wanted - seen, key=int):
        pod = next(p for p in pods if address in p.addresses.all)
        found.append(
            f"Service {label}: ready pod {pod.label} has {address}, which is in none of its "
            f"{len(mine)} {family.kubernetes} EndpointSlices: no client over {family.kubernetes} "
            "is sent to it; look at kube-controller-manager's endpointslice controller"
        )
    return found


def stack_findings(
    service: ServiceView,
    *,
    asked: str,
    policy: str,
    families: Sequence[Family],
    ranges: Mapping[Family, IPNetwork | None],
) -> list[str]:
    """SVC-001, SVC-002: what the API made of a Service's family fields.

    Args:
        asked: what was asked of the API, in words.
        policy: the ipFamilyPolicy that it must have.
        families: the ipFamilies that it must have, in order; one clusterIP for each.
        ranges: service range of each family.

    Source: KEP-563, Kubernetes docs "IPv4/IPv6 dual-stack", scenarios.
    """
    found = []
    if service.policy != policy:
        found.append(f"{asked}: ipFamilyPolicy is {service.policy or 'unset'}, expected {policy}")
    if service.families != tuple(families):
        found.append(
            f"{asked}: ipFamilies is [{listed(f.kubernetes for f in service.families)}], expected "
            f"[{listed(f.kubernetes for f in families)}]: the order comes from the request, else "
            "from --service-cluster-ip-range of kube-apiserver"
        )
    addresses = service.cluster_ips.all
    if [Family.of(a) for a in addresses] != list(families):
        found.append(
            f"{asked}: clusterIPs is [{listed(addresses)}], expected one address of each of "
            f"[{listed(f.kubernetes for f in families)}] in this order"
        )
    for address in addresses:
        wanted = ranges.get(Family.of(address))
        if wanted is None or address not in wanted:
            found.append(
                f"{asked}: clusterIP {address} is outside of the service range {wanted or 'none'} "
                "of its family: compare --service-cluster-ip-range of all API servers"
            )
    first = service.raw["spec"].get("clusterIP")
    if not addresses or first != str(addresses[0]):
        found.append(f"{asked}: clusterIP is {first}, clusterIPs is [{listed(addresses)}]")
    return found


def refusal(asked: str, error: ApiError, ranges: Sequence[IPNetwork]) -> str:
    """Sentence for a Service that the API refused although it must be possible."""
    return (
        f"{asked}: the API refused ({error.message}); kube-apiserver has the service ranges "
        f"{listed(ranges)}: give --service-cluster-ip-range one range of each family"
    )


def agent_service(workloads: Workloads, **options: Any) -> ServiceView:
    """A Service with a backend on every node, of both families where the cluster has them.

    Args:
        options: of ``Workloads.service``, e.g. ``type="NodePort"``.
    """
    wanted = {"selector": AGENT_PODS, "namespace": AGENT_NAMESPACE, "policy": PREFER, **options}
    return workloads.service(**wanted)


def cluster_ip(service: ServiceView, family: Family) -> IPAddress:
    """The clusterIP of a family, of a Service that was to have both if the cluster has them.

    Raises:
        Blocked: by CFG-004, when the API gave it none.
    """
    require_family(service, family)
    return service.cluster_ips.require(family)


def require_family(service: ServiceView, family: Family) -> None:
    """Gate of what is judged over one family of a PreferDualStack Service.

    Raises:
        Blocked: by CFG-004, when the API did not give it this family.
    """
    if family not in service.families:
        had = listed(f.kubernetes for f in service.families)
        raise Blocked("CFG-004", f"a {PREFER} Service is {had} only", family)


# -- who asks -------------------------------------------------------------------------------------


def clients_inside(agents: AgentPool) -> dict[str, Agent]:
    """A pod on every node that is no backend, and every node, by the labels that cells show."""
    return {
        **{f"pod on {node}": agent for node, agent in agents.peers.items()},
        **{f"node {node}": agent for node, agent in agents.nodes.items()},
    }


def refuses_own_fragments(facts: Facts) -> set[str]:
    """Labels of nodes that cannot send datagrams to clusterIPs that are larger than their links.

    In ipvs mode clusterIPs are the node's own: what it sends itself is sized for its loopback
    interface and marked not to be fragmented, and IPVS, which sends it on over a link, refuses it
    (EMSGSIZE; ip_vs_xmit.c, ensure_mtu_is_adequate). With IPv4 the next one knows the size, with
    IPv6 none ever does (seen on Linux 7.2). Pods on the node are not concerned.
    """
    return {f"node {node.name}" for node in facts.nodes if facts.proxy_mode(node.name) == "ipvs"}


def backend_clients(agents: AgentPool) -> dict[str, Agent]:
    """The backends behind ``AGENT_PODS`` as clients of their own Service."""
    return {f"backend on {node}": agent for node, agent in agents.pods.items()}


def backends(agents: AgentPool, *families: Family) -> dict[str, str]:
    """Identity -> node of the backends behind ``AGENT_PODS``.

    Raises:
        Blocked: by PODIP-002, when one has no address of a needed family.
    """
    for agent in agents.pods.values():
        for family in families:
            pod_address(agent, family)
    return {agent.identity: node for node, agent in agents.pods.items()}


# -- who answered ---------------------------------------------------------------------------------


def servers_seen(answered: Iterable[Answered]) -> dict[tuple[str, str], set[str]]:
    """Identities that answered, for each source and kind of request.

    Raises:
        Inconclusive: a probe did not run.
    """
    seen: dict[tuple[str, str], set[str]] = {}
    for cell, observation in answered:
        if observation.outcome is Outcome.INCONCLUSIVE:
            raise Inconclusive(f"{cell}: {observation.error}")
        names = seen.setdefault((cell.source, cell.detail), set())
        if observation.server is not None:
            names.add(observation.server)
    return seen


def spread_findings(
    seen: Mapping[tuple[str, str], Collection[str]], backends: Mapping[str, str], tries: int
) -> list[str]:
    """SVC-009: every client must have been answered by every ready endpoint.

    Args:
        seen: servers by source and kind of request.
        backends: identity -> node of every ready endpoint.
        tries: requests of each source and kind.
    """
    found = []
    for (source, detail), servers in sorted(seen.items()):
        missing = sorted(set(backends) - set(servers))
        if missing:
            places = listed(f"{name} on {backends[name]}" for name in missing)
            found.append(
                f"{detail} from {source}: {tries} requests never reached {places} "
                f"({len(set(backends) & set(servers))} of {len(backends)} ready endpoints "
                "answered): kube-proxy on the source's node does not know the endpoint, or an ipvs "
                "scheduler that pins clients (sh) is set"
            )
        alien = sorted(set(servers) - set(backends))
        if alien:
            found.append(f"{detail} from {source}: answered by {listed(alien)}, no endpoint of it")
    return found
