"""A node that changes the mode of its kube-proxy while Services are in use.

kube-proxy runs once per mode, as a DaemonSet for the nodes with a label (clusters.render_proxy):
another value of the label is another mode. What the flows of both families lose meanwhile, and what
is left of the mode that was, is observed once per run and judged for each family.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helpers.facts import proxy_mode_now
from helpers.flow_model import Flow, FlowKind, FlowReport, Way
from helpers.flows import flowing
from helpers.ipvs.expected import SETS, set_name
from helpers.ipvs.nodes import read_kernel
from helpers.model import FAMILIES, Family, IPAddress, Protocol
from helpers.netstate import netfilter
from helpers.once import once
from helpers.plan import Kind, follows_within, plan, programmed
from helpers.probes import Probe, run_all
from helpers.service_proxy_config import MODE_LABEL
from helpers.waiting import NotSettled, consistently, eventually
from helpers.workloads import tcp_port, udp_port

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube
    from helpers.workloads import Workloads

HOME: Final = "ipvs"
AWAY: Final = "nftables"
ANSWERS_WITHIN: Final = 90.0  # seconds for the other kube-proxy to run
CLEAN_WITHIN: Final = 60.0
BEFORE: Final = 3.0  # seconds of flows before and after each change
LISTEN: Final = 9100  # UDP port that backends count datagrams on
DATAGRAMS: Final = 81  # port of the Service for them
QUESTION: Final = ("kubernetes.default.svc.cluster.local.", "A")
# kubelet's own chains (pkg/kubelet/kubelet_network_linux.go): no part of kube-proxy.
KUBELETS: Final = frozenset(
    {"KUBE-KUBELET-CANARY", "KUBE-FIREWALL", "KUBE-MARK-DROP", "KUBE-IPTABLES-HINT"}
)
# Seen with 1.36: kube-proxy destroys the sets of ipvs mode by their IPv4 names only, so that those
# of IPv6 stay, unused (pkg/proxy/ipvs/proxier.go, cleanupLeftovers). Red again when it does better.
KEPT_SETS: Final = frozenset(f"ipset {set_name(name, Family.IPV6)}" for name in SETS)


@dataclass(frozen=True, slots=True)
class Leg:
    """One change of the mode: what the flows lost, and what was left of the old mode."""

    mode: str
    answered: bool
    flows: tuple[Mapping[str, Any], ...]
    left: Mapping[str, Sequence[str]]  # by family

    def to_json(self) -> dict[str, Any]:
        left = {family: list(things) for family, things in self.left.items()}
        return {
            "mode": self.mode,
            "answered": self.answered,
            "flows": list(self.flows),
            "left": left,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Leg:
        return cls(data["mode"], data["answered"], tuple(data["flows"]), data["left"])


def migration(
    state: Path,
    kube: Kube,
    agents: AgentPool,
    workloads: Workloads,
    node: str,
) -> list[Leg]:
    """The node goes to nftables and back, once per run; see ``Leg``."""

    def compute() -> list[dict[str, Any]]:
        flows = _flows(agents, workloads, node)
        try:
            return [_leg(kube, agents, node, mode, flows).to_json() for mode in (AWAY, HOME)]
        finally:
            _set_mode(kube, node, HOME)  # also when the first half could not be observed

    return [Leg.from_json(leg) for leg in once(state, f"migration-{node}", compute)]


def _leg(kube: Kube, agents: AgentPool, node: str, mode: str, flows: Sequence[Flow]) -> Leg:
    agent = agents.nodes[node]
    with flowing(flows) as running:
        _rest("flows before the change")
        _set_mode(kube, node, mode)
        answered = _answers(agent, mode)
        _reached_again(agent, flows)
        left = {f.value: _left_in_time(agent, mode, f) for f in FAMILIES}
        _rest("flows after the change")
        reports = running.stop()
    return Leg(mode, answered, tuple(_told(report) for report in reports), left)


def _set_mode(kube: Kube, node: str, mode: str) -> None:
    kube.patch("v1", "Node", node, {"metadata": {"labels": {MODE_LABEL: mode}}})


def _rest(what: str) -> None:
    consistently(lambda: what, bool, during=BEFORE, every=BEFORE, what=what)


def _answers(agent: Agent, mode: str) -> bool:
    try:
        eventually(
            lambda: proxy_mode_now(agent),
            lambda now: now == mode,
            within=ANSWERS_WITHIN,
            what=f"kube-proxy on {agent.node} answers {mode}",
        )
    except NotSettled:
        return False
    return True


def _reached_again(agent: Agent, flows: Sequence[Flow]) -> None:
    """Wait until new connections get through; the flows tell it when they do not."""
    asked: dict[Agent, list[Probe]] = {}
    for flow in flows:
        if flow.kind is FlowKind.CONNECT and flow.port is not None:
            asked.setdefault(flow.source, []).append(Probe(Protocol.TCP, flow.target, flow.port))
    with contextlib.suppress(NotSettled):
        eventually(
            lambda: [one for found in run_all(asked).values() for one in found],
            lambda seen: all(one.reached for one in seen),
            within=follows_within([agent]),
            what="new connections get through again",
        )


def _left_in_time(agent: Agent, mode: str, family: Family) -> list[str]:
    try:
        return eventually(
            lambda: left_behind(agent, mode, family),
            lambda left: not unexpected(left),
            within=CLEAN_WITHIN,
            what=f"nothing but {mode} is left on {agent.node} ({family})",
        )
    except NotSettled as late:
        return list(late.last) if isinstance(late.last, list) else []


def left_behind(agent: Agent, mode: str, family: Family) -> list[str]:
    """What a node's kernel still has of the mode that its kube-proxy does not run in."""
    filters = netfilter(agent)
    if mode == HOME:
        return (
            [f"nftables table kube-proxy ({family})"]
            if "kube-proxy" in filters.tables[family]
            else []
        )
    kernel, _ = read_kernel(agent)
    prefix = "KUBE-6-" if family is Family.IPV6 else "KUBE-"
    found = [f"virtual server {server}" for server in kernel.servers if server.family is family]
    found += [
        f"ipset {name}"
        for name in kernel.sets
        if name.startswith(prefix) and name.startswith("KUBE-6-") is (family is Family.IPV6)
    ]
    found += [
        f"chain {name}"
        for name in sorted(filters.chains[family] - KUBELETS)
        if name.startswith("KUBE-")
    ]
    if kernel.bound is not None:
        found.append("interface kube-ipvs0")
    return found


def unexpected(left: Sequence[str]) -> list[str]:
    """What is left without kube-proxy being known to leave it."""
    return [thing for thing in left if thing not in KEPT_SETS]


# -- flows ----------------------------------------------------------------------------------------


def _flows(agents: AgentPool, workloads: Workloads, node: str) -> list[Flow]:
    """Old and new flows of both families through a clusterIP and, from outside, a NodePort."""
    backends = [workloads.agent(pod) for pod in workloads.pods(list(agents.nodes))]
    service = workloads.service(
        type="NodePort", ports=[tcp_port(), udp_port(DATAGRAMS, target=LISTEN)]
    )
    names = workloads.service(
        type="NodePort",
        namespace="kube-system",
        selector={"k8s-app": "kube-dns"},
        ports=[udp_port(53, target=53)],
    )
    inside = agents.peers[node]
    kinds = [Kind("tcp", Protocol.TCP, 80)]
    targets = {str(a): a for a in service.cluster_ips.all}
    programmed(plan({f"pod on {node}": inside}, targets, kinds), "the Service answers")
    found = []
    for family in FAMILIES:
        service_ip, names_ip = (s.cluster_ips.require(family) for s in (service, names))
        ways = [Through(Way.CLUSTER_IP, inside, service_ip, 80, DATAGRAMS, names_ip, 53)]
        if agents.outside is not None:
            at = agents.nodes[node].addresses.require(family)
            ports = service.node_ports["tcp"], service.node_ports["udp"]
            ways.append(
                Through(Way.NODE_PORT, agents.outside, at, *ports, at, names.node_ports["udp"])
            )
        found += [flow for way in ways for flow in way.flows(backends)]
    return found


@dataclass(frozen=True, slots=True)
class Through:
    """A client's way into two Services: addresses, and the ports for TCP, datagrams and DNS."""

    way: Way
    client: Agent
    target: IPAddress
    tcp: int
    udp: int
    names: IPAddress
    dns: int

    def flows(self, backends: Sequence[Agent]) -> list[Flow]:
        """Established and new, of TCP and UDP.

        An open connection, new ones, datagrams from one port, and questions that come from a new
        port each.
        """

        def flow(kind: FlowKind, target: IPAddress, to: str, port: int, **more: Any) -> Flow:
            return Flow(
                kind=kind, way=self.way, source=self.client, target=target, to=to, port=port, **more
            )

        counted = {"receivers": tuple(backends), "listen": LISTEN}
        return [
            flow(FlowKind.TCP, self.target, "the Service", self.tcp),
            flow(FlowKind.CONNECT, self.target, "the Service", self.tcp),
            flow(FlowKind.UDP, self.target, "the Service", self.udp, **counted),
            flow(FlowKind.DNS, self.names, "DNS", self.dns, question=QUESTION),
        ]


def _told(report: FlowReport) -> dict[str, Any]:
    return {
        **report.to_json(),
        "still": any(gap.still for gap in report.gaps),
        "text": str(report),
    }


# -- judging --------------------------------------------------------------------------------------


def migration_findings(node: str, legs: Sequence[Leg], family: Family) -> list[str]:
    """PRX-009: nothing of the old mode is left, and what is new flows again.

    Connections that were open before the change may end: their translation was the old mode's.
    """
    found = []
    for leg in legs:
        if not leg.answered:
            found.append(f"kube-proxy on {node} did not run in {leg.mode} mode in time")
        left = unexpected(leg.left[family.value])
        known = len(leg.left[family.value]) - len(left)
        if leg.mode == AWAY and family is Family.IPV6 and leg.answered and not known:
            found.append(
                f"kube-proxy on {node} has removed the IPv6 sets of ipvs mode, which it was known "
                "to leave: take KEPT_SETS out of helpers/ipvs/migration.py"
            )
        if left:
            shown = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
            found.append(
                f"{node} runs {leg.mode} now and still has {shown}: packets may be balanced by "
                "what nobody maintains; kube-proxy --cleanup removes it"
            )
        for flow in leg.flows:
            new = flow["kind"] in (FlowKind.CONNECT, FlowKind.DNS)
            if flow["family"] == family.value and new and flow["still"]:
                found.append(f"after the change to {leg.mode} new flows stay lost: {flow['text']}")
    return found
