"""Whether versions and their combination can do dual stack (CFG-001, CFG-002, CFG-018).

Pure judgements. The limits are written down here a second time, away from the code that renders
clusters: a table that both wrote and judged a cluster could not be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from helpers.findings import listed
from helpers.model import FAMILIES, Family

if TYPE_CHECKING:
    from helpers.facts import Facts
    from helpers.netstate import Netfilter, NetState

GATE: Final = "IPv6DualStack"
# KEP-563: the gate's life. First minor releases of each span.
FIRST: Final = 16  # alpha, off by default
ON_BY_DEFAULT: Final = 21  # beta
REMOVED: Final = 25  # kubernetes#109435: naming it stops a component
SERVICES_REDESIGNED: Final = 20  # ipFamilyPolicy, ipFamilies, clusterIPs

_TRUE: Final = frozenset({"true", "1", "yes", "y", "t"})  # Felix: felix/config/param_types.go
_FALSE: Final = frozenset({"false", "0", "no", "n", "f"})


def minor_of(version: Mapping[str, Any]) -> int:
    """Minor version in the answer to GET /version (managed clusters write ``27+``)."""
    return int(re.sub(r"\D", "", str(version["minor"])))


def api_findings(
    version: Mapping[str, Any], kubernetes_service: Mapping[str, Any] | None
) -> list[str]:
    """CFG-001: the API server has dual stack, and the Service API of its era.

    Args:
        kubernetes_service: the Service ``default/kubernetes`` as the API serves it.
    """
    minor = minor_of(version)
    git = version.get("gitVersion", f"1.{minor}")
    if minor < FIRST:
        return [
            f"the API server is Kubernetes {git}, which has no dual stack: upgrade to 1.16 or "
            "later (1.23 or later for dual stack that is generally available)"
        ]
    if minor < SERVICES_REDESIGNED:
        return []
    if kubernetes_service is None:
        return [
            "the API server has no Service default/kubernetes, which it makes itself on start: "
            "its service controller does not work, see the log of kube-apiserver"
        ]
    spec = kubernetes_service["spec"]
    missing = [n for n in ("ipFamilyPolicy", "ipFamilies", "clusterIPs") if not spec.get(n)]
    return [
        f"the API server is Kubernetes {git}, but its Services have no {listed(missing)}: it was "
        f"started with --feature-gates={GATE}=false, remove that"
    ] * bool(missing)


def service_api_is_legacy(minor: int) -> bool:
    """1.16 to 1.19: ``Service.spec.ipFamily``, one family per Service."""
    return minor < SERVICES_REDESIGNED


def gate_findings(minor: int, gates: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """CFG-002: the feature gate IPv6DualStack is what this release wants it to be.

    Args:
        gates: feature gates of each place that can name some, by the place's name. A place that
            names none must be there with an empty mapping, else it is not judged.
    """
    found = []
    for place, named in gates.items():
        value = named.get(GATE)
        if minor >= REMOVED and value is not None:
            found.append(
                f"{place} names the feature gate {GATE} ({str(value).lower()}), which Kubernetes "
                f"1.{minor} no longer knows: it does not start the next time; remove the gate"
            )
        elif ON_BY_DEFAULT <= minor < REMOVED and value is False:
            found.append(
                f"{place} has the feature gate {GATE}=false: Kubernetes 1.{minor} is then "
                "single-stack there; remove the gate (it is on by default)"
            )
        elif minor < ON_BY_DEFAULT and value is not True:
            said = "does not name" if value is None else "has switched off"
            found.append(
                f"{place} {said} the feature gate {GATE}, which is off by default in Kubernetes "
                f"1.{minor}: set {GATE}=true"
            )
    return found


def named_gates(facts: Facts) -> dict[str, dict[str, bool]]:
    """Feature gates that the cluster names, by place; places that cannot be seen are absent."""
    found = {
        component: parse_gates(flags.get("feature-gates", []))
        for component in ("kube-apiserver", "kube-controller-manager")
        if (flags := facts.arguments(component))
    }
    for node in facts.nodes:
        found[f"kubelet on {node.name}"] = dict(facts.kubelet(node.name).get("featureGates") or {})
    if facts.kube_proxy:
        found["ConfigMap kube-system/kube-proxy"] = dict(facts.kube_proxy.get("featureGates") or {})
    # kubeadm lost the gate one release before the components (kubernetes#106648).
    if facts.kubeadm and facts.minor >= REMOVED:
        found["kubeadm's ClusterConfiguration"] = dict(facts.kubeadm.get("featureGates") or {})
    return found


def parse_gates(values: Sequence[str]) -> dict[str, bool]:
    """Values of ``--feature-gates``: ``["IPv6DualStack=true", ...]``."""
    pairs = (value.partition("=") for value in values if "=" in value)
    return {name: value.strip().lower() == "true" for name, _, value in pairs}


# -- the combination ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CalicoNode:
    """The calico-node pod of one node.

    Attributes:
        env: environment of its container, references resolved.
        ready: the pod's Ready condition, which includes Felix's connection to the datastore.
        restarts: of the container so far.
        problem: why the container waits, or how it last ended; None when there is nothing to say.
    """

    node: str
    pod: str
    namespace: str
    env: Mapping[str, str | None]
    ready: bool
    restarts: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Platform:
    """What CFG-018 judges, all of it observed.

    Attributes:
        kernels: release of each node's kernel, e.g. ``6.1.0-13-amd64``.
        proxy_modes: what kube-proxy on each node answers.
        ipvs_interface: nodes that have the interface kube-ipvs0.
        calico_nodes: nodes without a calico-node pod are absent.
        felix: FelixConfiguration specs by name.
        netfilter: per node, families in which anything is programmed into netfilter.
    """

    kubernetes: int
    calico: tuple[int, int]
    kernels: Mapping[str, str]
    proxy_modes: Mapping[str, str]
    ipvs_interface: frozenset[str]
    calico_nodes: Mapping[str, CalicoNode]
    felix: Mapping[str, Mapping[str, Any]]
    netfilter: Mapping[str, frozenset[Family]]
    vxlan6: bool = False

    @classmethod
    def of(
        cls,
        facts: Facts,
        calico_nodes: Mapping[str, CalicoNode],
        states: Mapping[str, NetState],
        filters: Mapping[str, Netfilter],
    ) -> Platform:
        """Put together what was observed in different places."""
        return cls(
            kubernetes=facts.minor,
            calico=calico_release(facts.calico),
            kernels={node.name: node.kernel for node in facts.nodes},
            proxy_modes=facts.proxy_modes,
            ipvs_interface=frozenset(n for n, state in states.items() if state.has("kube-ipvs0")),
            calico_nodes=calico_nodes,
            felix=facts.felix,
            netfilter={
                node: frozenset(f for f in FAMILIES if seen.tables[f] or seen.chains[f])
                for node, seen in filters.items()
            },
            vxlan6=any(pool.vxlan_mode != "Never" for pool in facts.enabled_pools(Family.IPV6)),
        )


def felix_setting(
    name: str,
    node: str,
    env: Mapping[str, str | None],
    felix: Mapping[str, Mapping[str, Any]],
) -> tuple[str | None, str]:
    """Effective value of a Felix parameter, and where it was found.

    Environment over the node's FelixConfiguration over the global one
    (felix/config/config_params.go, order of sources). ``("", "default")`` becomes
    ``(None, "Felix's default")``.

    Args:
        name: as FelixConfiguration spells it, e.g. ``ipv6Support``.
    """
    wanted = f"felix_{name}".lower()  # Felix does not care for the case of its variables
    for variable, value in env.items():
        if variable.lower() == wanted and value:
            return value, f"{variable} of calico-node"
    for configuration in (f"node.{node}", "default"):
        value = felix.get(configuration, {}).get(name)
        if value is not None:
            return str(value), f"FelixConfiguration {configuration}"
    return None, "Felix's default"


def truth(value: str | None, default: bool) -> bool | None:
    """A boolean as Felix reads it; None for text that it refuses."""
    if value is None:
        return default
    text = value.strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def nftables_mode(node: str, env: Mapping[str, str | None], platform: Platform) -> tuple[bool, str]:
    """Whether Felix programs nftables on a node, and the setting that says so."""
    value, where = felix_setting("nftablesMode", node, env, platform.felix)
    # Disabled by default until 3.31, follows kube-proxy from 3.32 on.
    value = value or ("Auto" if platform.calico >= (3, 32) else "Disabled")
    if value.lower() == "auto":
        return platform.proxy_modes.get(node) == "nftables", f"nftablesMode Auto ({where})"
    return value.lower() == "enabled", f"nftablesMode {value} ({where})"


def combination_findings(platform: Platform) -> list[str]:
    """CFG-018: the parts support each other on every node."""
    found = list(_release_findings(platform))
    for node in platform.kernels:
        calico = platform.calico_nodes.get(node)
        if calico is None:
            found.append(
                f"node {node} runs no calico-node: its pods have no network and no policy; look "
                "at the DaemonSet's node selector and tolerations"
            )
            continue
        found += _dataplane_findings(platform, node, calico)
        found += _health_findings(calico)
        missing = frozenset(FAMILIES) - platform.netfilter.get(node, frozenset())
        found += [
            f"node {node} has nothing in netfilter for {family.kubernetes}: neither kube-proxy nor "
            "Calico programs that family there; check the kernel's netfilter options for it"
            for family in sorted(missing)
        ]
    return found


def _release_findings(platform: Platform) -> Iterable[str]:
    calico = f"{platform.calico[0]}.{platform.calico[1]}"
    if platform.calico < (3, 11):
        yield f"Calico {calico} gives pods one family only: upgrade to 3.11 or later"
    if platform.calico >= (3, 30) and platform.kubernetes <= 20:
        yield (
            f"Calico {calico} does not work with Kubernetes 1.{platform.kubernetes}: its manifest "
            "needs APIs of 1.21 and later"
        )
    if platform.vxlan6 and platform.calico < (3, 23):
        yield f"an IPv6 pool uses VXLAN, which Calico {calico} does not have: upgrade to 3.23"
    types = {n.env.get("DATASTORE_TYPE") or "etcdv3" for n in platform.calico_nodes.values()}
    if len(types) > 1:
        yield (
            f"calico-node uses different datastores on different nodes ({listed(sorted(types))}): "
            "set one DATASTORE_TYPE for all"
        )


def _dataplane_findings(platform: Platform, node: str, calico: CalicoNode) -> Iterable[str]:
    kernel, mode = platform.kernels[node], platform.proxy_modes.get(node, "unknown")
    nftables, because = nftables_mode(node, calico.env, platform)
    ipvs = mode == "ipvs" or node in platform.ipvs_interface
    if nftables and ipvs:
        yield (
            f"Calico's nftables dataplane cannot run beside kube-proxy in ipvs mode: on {node} "
            f'{because} meets {_ipvs_evidence(mode)}, and calico-node crash-loops with "IPVS not '
            'supported in nftables mode"; set nftablesMode to Disabled or kube-proxy to nftables'
        )
    if nftables and (platform.kubernetes < 31 or _kernel(kernel) < (5, 13)):
        yield (
            f"Calico's nftables dataplane on {node} ({because}) needs Kubernetes 1.31 and kernel "
            f"5.13, found 1.{platform.kubernetes} and {kernel}; set nftablesMode to Disabled"
        )
    if mode == "nftables" and _kernel(kernel) < (5, 13):
        yield f"kube-proxy in nftables mode on {node} needs kernel 5.13, found {kernel}"
    bpf, where = felix_setting("bpfEnabled", node, calico.env, platform.felix)
    if truth(bpf, default=False) and ipvs:
        yield (
            f"Calico's eBPF dataplane ({where}) on {node} cannot work with {_ipvs_evidence(mode)}: "
            "remove kube-proxy and reboot the node, so that the state of IPVS goes"
        )
    if platform.vxlan6 and _kernel(kernel) < (4, 19):
        yield f"IPv6 VXLAN on {node} needs kernel 4.19.1, found {kernel}"


def _ipvs_evidence(mode: str) -> str:
    return "kube-proxy in ipvs mode" if mode == "ipvs" else "a leftover interface kube-ipvs0"


def _health_findings(calico: CalicoNode) -> Iterable[str]:
    if calico.ready:
        return
    said = f": {calico.problem}" if calico.problem else ""
    yield (
        f"calico-node on {calico.node} ({calico.namespace}/{calico.pod}, {calico.restarts} "
        f"restarts) is not Ready{said}; `kubectl logs -n {calico.namespace} {calico.pod}` says "
        "whether the datastore cannot be reached or the dataplane does not fit the kernel"
    )


def _kernel(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def calico_release(text: str) -> tuple[int, int]:
    """``v3.31.0`` -> (3, 31).

    Raises:
        ValueError: it is not a release.
    """
    found = re.match(r"v?(\d+)\.(\d+)", text)
    if not found:
        raise ValueError(f"{text!r} is no release of Calico")
    return int(found[1]), int(found[2])
