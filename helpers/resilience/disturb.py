"""Ways to disturb a cluster, each with the wait until it is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from helpers import bird
from helpers.calico_config import CALICO_NODE, calico_nodes
from helpers.findings import listed
from helpers.kube_errors import KubeError
from helpers.model import Family
from helpers.parallel import on_each
from helpers.verdicts import Inconclusive
from helpers.waiting import eventually

if TYPE_CHECKING:
    from helpers.agents.pool import AgentPool
    from helpers.facts import Facts
    from helpers.kube import Kube

ROLLED_WITHIN: Final = 60.0  # seconds for a roll to begin and end, and for each node beside
READY_WITHIN: Final = 90.0  # seconds for one pod of a DaemonSet
SESSIONS_WITHIN: Final = 60.0  # seconds for BGP once calico-node runs
KUBE_PROXY: Final = "kube-proxy"
SYSTEM: Final = "kube-system"
CONTROLLERS: Final = "calico-kube-controllers"
NODE_SELECTOR: Final = f"k8s-app={CALICO_NODE}"
Named = tuple[str, str]  # namespace, name


def calico_set(kube: Kube) -> Named:
    """Namespace and name of calico-node's DaemonSet.

    Raises:
        Inconclusive: there is none.
    """
    pods = calico_nodes(kube)
    if not pods:
        raise Inconclusive("no calico-node pod runs")
    return next(iter(pods.values())).namespace, CALICO_NODE


def calico_pods(kube: Kube) -> list[str]:
    """Names of calico-node's pods."""
    return [pod.name for pod in kube.pods(selector=NODE_SELECTOR)]


def proxy_sets(kube: Kube) -> list[Named]:
    """DaemonSets of kube-proxy: one for each mode that the profile declares."""
    sets = kube.objects("apps/v1", "DaemonSet", SYSTEM)
    names = [found["metadata"]["name"] for found in sets]
    return [(SYSTEM, name) for name in names if name.startswith(KUBE_PROXY)]


def restart(kube: Kube, sets: Iterable[Named]) -> None:
    """What ``kubectl rollout restart`` does."""
    now = datetime.now(UTC).isoformat()
    note = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}
    for namespace, name in sets:
        kube.patch("apps/v1", "DaemonSet", name, {"spec": {"template": note}}, namespace)


def rolled_out(kube: Kube, sets: Iterable[Named]) -> None:
    """Wait until every pod of some DaemonSets is of the newest template, and Ready.

    Raises:
        NotSettled: not within a minute, and a minute for each node.
    """
    wanted = list(sets)
    within = ROLLED_WITHIN * (1 + len(kube.nodes()))

    def look() -> dict[str, str]:
        states = {}
        for namespace, name in wanted:
            found = kube.get("apps/v1", "DaemonSet", name, namespace) or {}
            status = found.get("status", {})
            desired = status.get("desiredNumberScheduled", -1)
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            ready = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
            states[name] = f"{ready if current else 0} of {desired}"
        return states

    eventually(
        look,
        lambda states: all(s.split(" of ")[0] == s.split(" of ")[1] for s in states.values()),
        within=within,
        every=1.0,
        describe=lambda states: listed(f"{name}: {s} Ready" for name, s in states.items()),
        what=f"the roll of {listed(name for _, name in wanted)} ends",
        retry_on=(KubeError,),
    )


def controllers_run(kube: Kube, namespace: str) -> None:
    """Wait until calico-kube-controllers are of the newest template, and available.

    Raises:
        NotSettled: not in time.
    """

    def look() -> str:
        found = kube.get("apps/v1", "Deployment", CONTROLLERS, namespace)
        if found is None:
            return "absent"
        status = found.get("status", {})
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        ready = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
        ready = ready if current and status.get("replicas", 0) == ready else 0
        return "" if ready >= found["spec"].get("replicas", 1) else f"{ready} available"

    eventually(
        look,
        lambda missing: not missing,
        within=READY_WITHIN,
        every=1.0,
        describe=lambda missing: missing or "available",
        what=f"{CONTROLLERS} run",
        retry_on=(KubeError,),
    )


def sessions_up(agents: AgentPool, facts: Facts, families: Iterable[Family]) -> None:
    """Wait until BIRD has all of its sessions again, in every family.

    Raises:
        NotSettled: not in time; the message says which are missing.
    """
    wanted = [
        (node, family)
        for family in families
        for node, address in bird.bgp_addresses(facts.nodes, family).items()
        if address is not None
    ]

    def look() -> list[str]:
        seen = on_each(wanted, lambda pair: bird.read_sessions(agents.nodes[pair[0]], pair[1]))
        return [
            f"{bird.DAEMON[family]} on {node}"
            for (node, family), sessions in seen.items()
            if sessions is None or not sessions or not all(s.established for s in sessions)
        ]

    eventually(
        look,
        lambda missing: not missing,
        within=SESSIONS_WITHIN,
        every=1.0,
        describe=lambda missing: f"not all Established: {listed(missing)}",
        what="all BGP sessions of both families are back",
    )


def kill_calico(agents: AgentPool, node: str) -> None:
    """SIGKILL Felix, BIRD and all else of one calico-node; runit starts them again.

    Raises:
        Inconclusive: nothing was killed.
    """
    agent = agents.nodes[node]
    killed = [
        entry
        for name in ("calico-node", "bird", "bird6")
        for entry in agent.call("signal_process", name=name, signal="KILL")
    ]
    done = [entry for entry in killed if entry["error"] is None]
    if not any("-felix" in entry["argv"] for entry in done):
        raise Inconclusive(f"no Felix was killed on {node}: {killed}")


def delete_calico(kube: Kube, node: str) -> None:
    """Delete one calico-node pod without grace, and wait until another is Ready there.

    Raises:
        NotSettled: none is in time.
    """
    old = calico_nodes(kube)[node]
    kube.delete("v1", "Pod", old.pod, old.namespace, grace_seconds=0)
    eventually(
        lambda: [
            pod
            for pod in kube.pods(old.namespace, NODE_SELECTOR)
            if pod.node == node and pod.name != old.pod
        ],
        lambda pods: any(pod.ready for pod in pods),
        within=READY_WITHIN,
        every=1.0,
        describe=lambda pods: listed(f"{p.name} {'Ready' if p.ready else p.phase}" for p in pods),
        what=f"calico-node is Ready again on {node}",
        retry_on=(KubeError,),
    )


def pod_ips(kube: Kube) -> dict[str, tuple[str, ...]]:
    """uid and name -> addresses of every pod in the pod network that stays."""
    return {
        f"{pod.label} ({pod.uid})": pod.pod_ips
        for pod in kube.pods()
        if not pod.host_network and not pod.deleting and pod.phase == "Running"
    }


def moved_findings(
    before: Mapping[str, tuple[str, ...]], after: Mapping[str, tuple[str, ...]], family: Family
) -> list[str]:
    """RES-001: pods that lived through it have the addresses of the family that they had."""

    def mine(addresses: tuple[str, ...]) -> list[str]:
        return [address for address in addresses if Family.of(address) is family]

    return [
        f"pod {pod} had {listed(mine(before[pod]))} and has {listed(mine(after[pod]))} afterwards: "
        "its connections are lost; look at the CNI's log on its node"
        for pod in before.keys() & after.keys()
        if mine(before[pod]) != mine(after[pod])
    ]
