"""Installing Calico, and waiting until it works in both families.

Calico's own readiness probe asks only BIRD for IPv4: every IPv6 session may be down while all
pods are Ready. So the wait here also asks both BIRD daemons of every node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from clusters.api import Progress
from clusters.render_calico import CONTROLLERS, NODE, ManifestError, PullPolicy, calico_manifests
from clusters.spec import ClusterSpec
from helpers.kube import Kube, KubeError
from helpers.model import Family, IPAddress
from helpers.waiting import REAL_TIME, Sleeper, eventually

NAMESPACE = "kube-system"
READY_WITHIN = 300.0  # seconds; the reference machine needs 20
# Names and sockets are those of Calico's image; IPv4 and IPv6 are two daemons in BIRD 1.
BIRD_CLIENT = {
    Family.IPV4: ["birdcl", "-s", "/var/run/calico/bird.ctl"],
    Family.IPV6: ["birdcl6", "-s", "/var/run/calico/bird6.ctl"],
}
# Reasons that no waiting mends; a failed pull may be mended by the next try, these cannot.
HOPELESS = ("ErrImageNeverPull", "InvalidImageName")
WORKLOADS = ("DaemonSet", "Deployment")


@dataclass(frozen=True, slots=True)
class Session:
    """A BGP session as BIRD tells it: ``state`` is up, start or down, ``info`` its last column."""

    name: str
    peer: IPAddress | None
    state: str
    info: str

    @property
    def established(self) -> bool:
        return self.state == "up" and self.info.endswith("Established")


BgpState = Callable[[str, Family], list[Session]]  # node name, family -> its BGP sessions


@dataclass(frozen=True, slots=True)
class Count:
    """How many of how many."""

    ready: int
    wanted: int

    @property
    def complete(self) -> bool:
        return self.wanted > 0 and self.ready >= self.wanted

    def __str__(self) -> str:
        return f"{self.ready}/{self.wanted}"


@dataclass(frozen=True, slots=True)
class Readiness:
    """One look at an installation.

    Attributes:
        parts: what is waited for by name, ``nodes`` and workloads first, then BGP per family.
        notes: pods that wait and why, sessions that could not be asked.
        hopeless: sentence when waiting makes no sense, else None.
    """

    parts: Mapping[str, Count]
    notes: tuple[str, ...] = ()
    hopeless: str | None = None

    @property
    def complete(self) -> bool:
        return all(count.complete for count in self.parts.values())

    def __str__(self) -> str:
        missing = [f"{name} {count}" for name, count in self.parts.items() if not count.complete]
        text = ", ".join(missing) or "all ready"
        return f"{text} ({'; '.join(self.notes)})" if self.notes else text


def read_documents(manifest: Path) -> list[dict[str, Any]]:
    """The documents of a manifest, without empty ones.

    Raises:
        ManifestError: the file cannot be read or is not YAML.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 20 times faster on 10,000 lines
    try:
        with manifest.open(encoding="utf-8") as stream:
            return [document for document in yaml.load_all(stream, loader) if document]
    except (OSError, yaml.YAMLError) as error:
        raise ManifestError(f"manifest {manifest} cannot be read: {error}") from error


def install(
    kube: Kube,
    manifest: Path,
    spec: ClusterSpec,
    progress: Progress,
    *,
    pull_policy: PullPolicy = "IfNotPresent",
    change: Callable[[list[dict[str, Any]]], None] | None = None,
) -> None:
    """Apply Calico's manifest with the settings of the profile. Does not wait for it to run.

    Workloads go last: pods that start before their account and configuration exist fail and are
    tried again only after a back-off. Custom resources are applied after their definitions are
    served; upstream's manifest has none, calico-node makes its pools when it starts.

    Args:
        change: changes the documents in place before they are applied.

    Raises:
        ManifestError: the manifest is not one that can be rendered.
        KubeError: the API refused an object or could not be reached.
    """
    documents = calico_manifests(read_documents(manifest), spec, pull_policy=pull_policy)
    if change is not None:
        change(documents)
    definitions = [d for d in documents if d["kind"] == "CustomResourceDefinition"]
    groups = {d["spec"]["group"] for d in definitions}
    custom = [d for d in documents if d["apiVersion"].partition("/")[0] in groups]
    progress(f"applying {len(documents)} objects of Calico {spec.calico}")
    workloads = [d for d in documents if d["kind"] in WORKLOADS]
    kube.apply([d for d in documents if d not in custom and d not in workloads])
    kube.apply(workloads)
    if custom:
        _wait_established(kube, [d["metadata"]["name"] for d in definitions])
        kube.apply(custom)


def _wait_established(kube: Kube, names: Iterable[str]) -> None:
    wanted = set(names)

    def missing() -> set[str]:
        found = kube.objects("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        return wanted - {d["metadata"]["name"] for d in found if _condition(d, "Established")}

    eventually(
        missing,
        lambda names: not names,
        within=60,
        what="Calico's resource definitions are served",
        describe=lambda names: f"not yet: {', '.join(sorted(names))}",
    )


def wait_ready(
    kube: Kube,
    spec: ClusterSpec,
    progress: Progress,
    *,
    bgp_state: BgpState | None = None,
    nodes: int | None = None,
    within: float = READY_WITHIN,
    hopeless: Callable[[], str | None] = lambda: None,
    sleeper: Sleeper = REAL_TIME,
) -> Readiness:
    """Wait until nodes, Calico, DNS and the BGP sessions of both families are ready.

    Args:
        progress: told each time that what is missing changes.
        bgp_state: how to ask a node's BIRD; default: through exec into its calico-node pod.
        nodes: how many nodes there must be; default: those of the profile.
        within: seconds.
        hopeless: says why waiting makes no sense for a reason that the API does not know.

    Raises:
        NotSettled: it did not become ready; the message tells the story of the wait.
    """
    ask = bgp_state or bird_sessions(kube)
    wanted = spec.node_count if nodes is None else nodes
    told: list[str] = []

    def look() -> Readiness:
        seen = observe(kube, spec, wanted, ask)
        if not told or told[-1] != str(seen):
            told.append(str(seen))
            progress(f"waiting for Calico: {seen}" if not seen.complete else "Calico is ready")
        return seen

    return eventually(
        look,
        lambda seen: seen.complete,
        within=within,
        fatal=lambda seen: seen.hopeless or (None if seen.complete else hopeless()),
        describe=str,
        what="nodes, Calico, DNS and BGP of both families are ready",
        retry_on=(KubeError,),
        sleeper=sleeper,
    )


def observe(kube: Kube, spec: ClusterSpec, wanted: int, bgp_state: BgpState) -> Readiness:
    """Look once. BGP is asked last: an exec into pods that do not run yet would only be slow."""
    nodes = kube.nodes()
    parts = {
        "nodes": Count(sum(node.ready for node in nodes), wanted),
        NODE: _daemon_set(kube.get("apps/v1", "DaemonSet", NODE, NAMESPACE), wanted),
        CONTROLLERS: _deployment(kube.get("apps/v1", "Deployment", CONTROLLERS, NAMESPACE)),
        "coredns": _deployment(kube.get("apps/v1", "Deployment", "coredns", NAMESPACE)),
    }
    if not all(count.complete for count in parts.values()):
        waiting = [(pod.label, pod.waiting) for pod in kube.pods(NAMESPACE) if pod.waiting]
        stuck = [f"{label} {why}" for label, why in waiting if why.startswith(HOPELESS)]
        notes = tuple(f"{label}: {why}" for label, why in waiting if "Creating" not in why)
        return Readiness(parts, notes, "; ".join(stuck) or None)
    if not spec.bgp:
        return Readiness(parts)
    counts, notes = _bgp(spec, [node.name for node in nodes], bgp_state)
    return Readiness(parts | counts, notes)


def _bgp(
    spec: ClusterSpec, nodes: Sequence[str], bgp_state: BgpState
) -> tuple[dict[str, Count], tuple[str, ...]]:
    """Established sessions per family; a full mesh has one from each node to each other."""
    if len(nodes) < 2:  # a mesh of one has no sessions, and that is complete
        return {}, ()
    questions = [(node, family) for family in spec.families for node in nodes]

    def ask(question: tuple[str, Family]) -> list[Session] | str:
        try:
            return bgp_state(*question)
        except (KubeError, LookupError) as error:
            return f"{question[0]} {question[1]}: {error}"

    with ThreadPoolExecutor(max_workers=8) as threads:
        answers = dict(zip(questions, threads.map(ask, questions), strict=True))
    counts = {}
    for family in spec.families:
        lists = [answers[node, family] for node in nodes]
        up = sum(
            s.established for sessions in lists if isinstance(sessions, list) for s in sessions
        )
        counts[f"BGP {family}"] = Count(up, len(nodes) * (len(nodes) - 1))
    return counts, tuple(answer for answer in answers.values() if isinstance(answer, str))


def _daemon_set(found: Mapping[str, Any] | None, wanted: int) -> Count:
    if found is None:
        return Count(0, wanted)
    status = found.get("status", {})
    current = status.get("observedGeneration") == found["metadata"].get("generation")
    # During a rollout a ready pod may still be the old one.
    ready = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
    return Count(ready if current else 0, max(wanted, status.get("desiredNumberScheduled", 0)))


def _deployment(found: Mapping[str, Any] | None) -> Count:
    if found is None:
        return Count(0, 1)
    status = found.get("status", {})
    current = status.get("observedGeneration") == found["metadata"].get("generation")
    ready = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
    return Count(ready if current else 0, found.get("spec", {}).get("replicas", 1))


def _condition(found: Mapping[str, Any], kind: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def bird_sessions(kube: Kube) -> BgpState:
    """Ask the BIRD of a node and family through exec into its calico-node pod."""

    def ask(node: str, family: Family) -> list[Session]:
        pods = kube.pods(NAMESPACE, f"k8s-app={NODE}")
        pod = next((pod for pod in pods if pod.node == node and not pod.deleting), None)
        if pod is None:
            raise LookupError(f"no {NODE} pod on {node}")
        command = [*BIRD_CLIENT[family], "show", "protocols"]
        return parse_protocols(kube.exec(NAMESPACE, pod.name, command, NODE))

    return ask


def parse_protocols(text: str) -> list[Session]:
    """BGP rows of BIRD 1's ``show protocols``: name, proto, table, state, since, info.

    Calico names sessions after the peer: ``Mesh_10_243_0_3``, ``Mesh_fd00_10_243__3``.
    """
    sessions = []
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 4 or columns[1] != "BGP":
            continue
        info = " ".join(columns[5:])
        sessions.append(Session(columns[0], _peer(columns[0]), columns[3], info))
    return sessions


def _peer(name: str) -> IPAddress | None:
    address = name.partition("_")[2]
    for separator in (".", ":"):
        try:
            return ip_address(address.replace("_", separator))
        except ValueError:
            continue
    return None
