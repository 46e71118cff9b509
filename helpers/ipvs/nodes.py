"""Nodes in ipvs mode: reading their kernels, and how these differ from the API now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import yaml

from helpers.agents.deploy import HOST_ROOT
from helpers.ipvs.compare import (
    Findings,
    address_findings,
    backend_findings,
    server_findings,
    set_findings,
    sysctl_findings,
)
from helpers.ipvs.expected import (
    Expected,
    NodeAddresses,
    Settings,
    expected_state,
    expected_sysctls,
)
from helpers.ipvs.kernel import DUMMY, KernelState, parse_servers, parse_sets
from helpers.model import FAMILIES, Family, IPAddress
from helpers.parallel import on_each
from helpers.plan import follows_within
from helpers.proxy_nodes import declared_nodes
from helpers.services import EndpointSlice
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from clusters.spec import ClusterSpec
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.kube import Kube

PROC: Final = "/proc/net/ip_vs"
KUBE_SYSTEM: Final = "kube-system"


@dataclass(frozen=True, slots=True)
class Look:
    """One node at one moment: what its kernel holds, and what it must hold."""

    node: NodeAddresses
    settings: Settings
    kernel: KernelState
    expected: Mapping[Family, Expected]

    def addresses(self, family: Family) -> Findings:
        return address_findings(self.node.name, self.kernel, self.expected[family])

    def servers(self, family: Family) -> Findings:
        wanted = self.expected[family]
        return server_findings(self.node.name, self.kernel, wanted, self.settings)

    def backends(self, family: Family) -> Findings:
        wanted = self.expected[family]
        return backend_findings(self.node.name, self.kernel, wanted, self.node.own)

    def sets(self) -> Findings:
        return set_findings(self.node.name, self.kernel, self.expected)

    def sysctls(self) -> Findings:
        return sysctl_findings(self.node.name, self.kernel, expected_sysctls(self.settings))

    def everything(self, family: Family) -> Findings:
        """All that is wrong in one family, its half of the ipsets included."""
        mine = self.expected[family].sets
        sets = {key: text for key, text in self.sets().items() if key[1] in mine}
        return {**self.addresses(family), **self.servers(family), **self.backends(family), **sets}


def ipvs_nodes(spec: ClusterSpec, facts: Facts) -> list[str]:
    """Nodes whose kube-proxy was declared to run in ipvs mode, whatever it does run in."""
    return [node for node, mode in declared_nodes(spec, facts).items() if mode == "ipvs"]


def settings_of(kube: Kube, node: str, fallback: Mapping[str, Any]) -> Settings:
    """What the kube-proxy of a node is told: the ConfigMap that its pod mounts.

    Not what the process itself answers: one that hangs does not, and must not be left out.

    Args:
        fallback: KubeProxyConfiguration for clusters whose kube-proxy is no pod.

    Raises:
        Inconclusive: there is neither.
    """
    pods = kube.objects("v1", "Pod", KUBE_SYSTEM, field_selector=f"spec.nodeName={node}")
    for pod in pods:
        names = [container["name"] for container in pod["spec"]["containers"]]
        for volume in pod["spec"].get("volumes") or [] if "kube-proxy" in names else []:
            name = (volume.get("configMap") or {}).get("name")
            found = kube.get("v1", "ConfigMap", name, KUBE_SYSTEM) if name else None
            text = (found or {}).get("data", {}).get("config.conf")
            if text:
                return Settings.from_config(yaml.safe_load(text))
    if not fallback:
        raise Inconclusive(f"the configuration of kube-proxy on {node} cannot be read")
    return Settings.from_config(fallback)


def read_kernel(agent: Agent) -> tuple[KernelState, frozenset[IPAddress]]:
    """What a node's kernel holds, and the node's own addresses.

    Raises:
        Inconclusive: something cannot be read although it is there.
    """
    facts = agent.call_one("facts")
    if facts["error"]:
        raise Inconclusive(f"{agent.name}: addresses could not be read: {facts['error']}")
    links = {link["ifname"]: _addresses(link) for link in facts["addresses"] if link}
    # Without the file the kernel has no IPVS: nothing is balanced, which is a finding.
    servers = agent.call_one("read_file", path=PROC)["text"] or ""
    return (
        KernelState(
            bound=frozenset(links[DUMMY]) if DUMMY in links else None,
            servers=parse_servers(servers),
            sets=parse_sets(_ipsets(agent)),
            sysctls={
                name: agent.call_one("sysctl", name=name)["value"]
                for name in expected_sysctls(Settings(strict_arp=True))
            },
        ),
        frozenset(a for name, held in links.items() if name != DUMMY for a in held),
    )


def _addresses(link: Mapping[str, Any]) -> list[IPAddress]:
    return [ip_address(a["local"]) for a in link.get("addr_info") or [] if "local" in a]


def _ipsets(agent: Agent) -> str:
    argv = ["ipset", "save"]
    done = agent.call_one("run", argv=argv, root=HOST_ROOT)
    if done["rc"] != 0:
        raise Inconclusive(
            f"{agent.name}: `{' '.join(argv)}` on the node failed: {done['stderr'].strip()}"
        )
    return str(done["stdout"])


@dataclass(frozen=True, slots=True)
class Watched:
    """Nodes in ipvs mode, with what does not change while they are looked at."""

    kube: Kube
    agents: AgentPool
    settings: Mapping[str, Settings]
    internal: Mapping[str, tuple[IPAddress, ...]]

    @classmethod
    def of(cls, kube: Kube, facts: Facts, agents: AgentPool, nodes: Sequence[str]) -> Watched:
        return cls(
            kube,
            agents,
            {node: settings_of(kube, node, facts.kube_proxy) for node in nodes},
            {node.name: node.internal_ips.all for node in facts.nodes},
        )

    @property
    def within(self) -> float:
        """Seconds that kube-proxy has for a change."""
        return follows_within(self.agents.nodes[node] for node in self.settings)

    def look(self) -> list[Look]:
        """All nodes now. The API is read first: what is newer than that is a finding that goes."""
        services = self.kube.objects("v1", "Service")
        found = self.kube.objects("discovery.k8s.io/v1", "EndpointSlice")
        slices = [EndpointSlice.from_api(item) for item in found]
        read = on_each(self.settings, lambda node: read_kernel(self.agents.nodes[node]))
        return [
            _look(name, services, slices, kernel, own, self.settings[name], self.internal[name])
            for name, (kernel, own) in read.items()
        ]


def _look(
    name: str,
    services: Sequence[Mapping[str, Any]],
    slices: Sequence[EndpointSlice],
    kernel: KernelState,
    own: frozenset[IPAddress],
    settings: Settings,
    internal: tuple[IPAddress, ...],
) -> Look:
    node = NodeAddresses(name, own, internal)
    expected = {f: expected_state(services, slices, f, node, settings) for f in FAMILIES}
    return Look(node, settings, kernel, expected)
