"""The life of new pods: one on every node, from its first packet to the release of its addresses.

Pods that already run prove nothing about the next one: most faults of the CNI leave them alone.
One life per node is observed once per run, and several requirements judge it. Beside them one
pod is made that cannot get an IPv6 address, so that the addresses of a failed creation are
followed too.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helpers.calico import Block
from helpers.findings import listed
from helpers.model import FAMILIES, Family, IPAddress
from helpers.once import once
from helpers.verdicts import Blocked
from helpers.views import PodView
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube, Object
    from helpers.workloads import Workloads

SCRIPT: Final = Path(__file__).with_name("first_contact.py")
FIRST_WORDS: Final = "first-contact"  # name of the init container
KUBELET_PORT: Final = 10250
BORN_WITHIN: Final = 45.0  # seconds; a node with a guest kernel starts programs slowly
STILLBORN_WITHIN: Final = 20.0  # seconds until the failed creation is an event
CONTACT_WITHIN: Final = 1000.0  # milliseconds from the container's start (duplicate detection off)
RELEASED_WITHIN: Final = 30.0  # seconds; Calico's own garbage collection takes 15 minutes

# An address range that no pool has (documentation prefix): IPAM gives an IPv4 address first, then
# fails on IPv6 and has one to give back.
IMPOSSIBLE: Final = {"cni.projectcalico.org/ipv6pools": '["2001:db8:dead::/64"]'}


@dataclass(frozen=True, slots=True)
class Contact:
    """How soon a new container reached something; ``milliseconds`` is None when it never did."""

    milliseconds: float | None
    attempts: int
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Newborn:
    """A new pod as the API showed it once it had settled; ``problem`` when it did not."""

    pod: str
    node: str
    pod_ips: tuple[str, ...]
    problem: str | None
    contacts: Mapping[Family, Contact]

    def of(self, family: Family) -> list[IPAddress]:
        addresses = [ip_address(value) for value in self.pod_ips]
        return [address for address in addresses if Family.of(address) is family]


@dataclass(frozen=True, slots=True)
class Release:
    """An allocation of a deleted pod; ``after`` is seconds from deletion, None: still allocated."""

    pod: str
    node: str
    address: IPAddress
    after: float | None


@dataclass(frozen=True, slots=True)
class Life:
    """What was seen of all of them.

    Attributes:
        failed_creation: the event of the pod that could not be created, None: there was none.
    """

    born: tuple[Newborn, ...]
    releases: tuple[Release, ...]
    failed_creation: str | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Life:
        return cls(
            born=tuple(_newborn(item) for item in raw["born"]),
            releases=tuple(
                Release(r["pod"], r["node"], ip_address(r["address"]), r["after"])
                for r in raw["releases"]
            ),
            failed_creation=raw["failed_creation"],
        )


def _newborn(item: Mapping[str, Any]) -> Newborn:
    contacts = {
        Family(name): Contact(told["ms"], told["attempts"], told["errors"])
        for name, told in item["contacts"].items()
    }
    pod_ips = tuple(item["pod_ips"])
    return Newborn(item["pod"], item["node"], pod_ips, item["problem"], contacts)


# -- judgements -----------------------------------------------------------------------------------


def birth_findings(life: Life, family: Family) -> list[str]:
    """PODIP-002: each new pod has exactly one address of the family."""
    found = []
    for baby in life.born:
        count = len(baby.of(family))
        if count == 1:
            continue
        where = f"new pod {baby.pod} on {baby.node} got {listed(baby.pod_ips)}"
        if count > 1:
            found.append(f"{where}: {count} {family.kubernetes} addresses instead of one")
        elif baby.pod_ips:
            found.append(
                f"{where}, no {family.kubernetes} address: the CNI configuration of {baby.node} "
                f'does not ask for one; set assign_{family} to "true" under ipam in the '
                "ConfigMap calico-config (kube-system) and restart calico-node"
            )
        else:
            found.append(
                f"{where}, no address at all: {baby.problem or 'no event'}; check that an enabled "
                f"IPPool of each family selects {baby.node} and has free addresses"
            )
    return found


def contact_findings(life: Life, family: Family) -> list[str]:
    """PODIP-007: the family works within a second of a container's start."""
    found = []
    for baby in life.born:
        contact = baby.contacts.get(family)
        where = f"new pod {baby.pod} on {baby.node}"
        if contact is None:
            found.append(f"{where} did not run its first program: {baby.problem or 'no event'}")
        elif contact.milliseconds is None:
            found.append(
                f"{where} reached nothing over {family.kubernetes} in {contact.attempts} attempts "
                f"from its start on ({_counts(contact.errors)}): its gateway does not answer, or "
                "its address was not usable"
            )
        elif contact.milliseconds > CONTACT_WITHIN:
            found.append(
                f"{where} reached nothing over {family.kubernetes} for "
                f"{contact.milliseconds:.0f} ms from its start on ({contact.attempts} attempts: "
                f"{_counts(contact.errors)}), allowed are {CONTACT_WITHIN:.0f} ms: duplicate "
                "address detection is on in the pod, or its gateway answers late"
            )
    return found


def release_findings(life: Life, family: Family) -> list[str]:
    """PODIP-011: a deleted pod's address is free again in time, a failed creation's too."""
    return [
        f"{release.address} of deleted pod {release.pod} on {release.node} "
        + (
            f"is still allocated after {RELEASED_WITHIN:.0f} s"
            if release.after is None
            else f"was released after {release.after:.1f} s, allowed are {RELEASED_WITHIN:.0f} s"
        )
        + f": CNI DEL does not release on {release.node} (see calico-ipam's messages in the "
        "container runtime's log); `calicoctl ipam release --ip` frees the address"
        for release in life.releases
        if Family.of(release.address) is family
        and (release.after is None or release.after > RELEASED_WITHIN)
    ]


def require_birth(life: Life, family: Family) -> None:
    """Gate G1 for what is judged of new pods.

    Raises:
        Blocked: by PODIP-002, when a new pod has no address of the family.
    """
    without = [baby.node for baby in life.born if not baby.of(family)]
    if without:
        raise Blocked("PODIP-002", f"new pods on {listed(without)} get no {family} address", family)


def _counts(errors: Mapping[str, int]) -> str:
    return listed(f"{count} x {name}" for name, count in errors.items())


# -- observation ----------------------------------------------------------------------------------


def life(state: Path, workloads: Workloads, agents: AgentPool) -> Life:
    """The lives of this run's new pods, observed by whichever test asks first."""
    return Life.from_json(once(state, "new-pods", lambda: observe(workloads, agents)))


def observe(workloads: Workloads, agents: AgentPool) -> dict[str, Any]:
    """Make a pod on every node and one that must fail, watch them come and go."""
    pods = {
        workloads.create_pod(node, mutate=_with_first_contact(contact_targets(agents, node))): node
        for node in agents.nodes
    }
    failing_node = list(agents.nodes)[-1]
    failing = workloads.create_pod(failing_node, annotations=IMPOSSIBLE)
    born = _births(workloads, pods)
    event = _failed_creation(workloads, failing)
    labels = {f"{workloads.namespace}/{name}": node for name, node in pods.items()}
    labels[f"{workloads.namespace}/{failing}"] = failing_node
    releases = _releases(workloads, labels)
    return {"born": born, "releases": releases, "failed_creation": event}


def contact_targets(agents: AgentPool, node: str) -> dict[Family, list[tuple[str, int]]]:
    """What a new pod tries first: its own node, the agent beside it, an agent elsewhere.

    One answer is enough: whether each path works is for other requirements, here it is the
    container's own beginning.
    """
    order = [node, *(other for other in agents.pods if other != node)][:2]
    return {
        family: [
            (str(address), port)
            for address, port in [
                (agents.nodes[node].addresses.of(family), KUBELET_PORT),
                *((agents.pods[n].addresses.of(family), agents.pods[n].port) for n in order),
            ]
            if address is not None
        ]
        for family in FAMILIES
    }


def _with_first_contact(
    targets: Mapping[Family, Sequence[tuple[str, int]]],
) -> Callable[[Object], None]:
    wanted = json.dumps({family.value: where for family, where in targets.items() if where})

    def mutate(pod: Object) -> None:
        image = {key: pod["spec"]["containers"][0][key] for key in ("image", "imagePullPolicy")}
        command = ["python3", "-c", SCRIPT.read_text(), wanted]
        pod["spec"]["initContainers"] = [{"name": FIRST_WORDS, "command": command, **image}]

    return mutate


def _births(workloads: Workloads, pods: Mapping[str, str]) -> list[dict[str, Any]]:
    def look() -> list[Object]:
        found = {p["metadata"]["name"]: p for p in _pods(workloads)}
        return [found[name] for name in pods if name in found]

    def settled(found: list[Object]) -> bool:
        return len(found) == len(pods) and all(
            pod["status"].get("podIPs") and _contacts(pod) for pod in found
        )

    try:
        found = eventually(
            look, settled, within=BORN_WITHIN, every=0.3, what="new pods", describe=_story
        )
    except NotSettled:
        found = look()  # what is missing is judged by the requirement that misses it
    return [_birth(workloads, pod) for pod in found]


def _birth(workloads: Workloads, pod: Object) -> dict[str, Any]:
    view = PodView.from_api(pod)
    contacts = _contacts(pod)
    problem = None
    if not view.pod_ips or not contacts:
        problem = workloads.last_warning(view.name) or view.waiting or f"it is {view.phase}"
    return {
        "pod": view.label,
        "node": view.node,
        "pod_ips": list(view.pod_ips),
        "problem": problem,
        "contacts": contacts,
    }


def _contacts(pod: Object) -> dict[str, Any]:
    for status in pod["status"].get("initContainerStatuses") or []:
        message = status.get("state", {}).get("terminated", {}).get("message")
        if status["name"] == FIRST_WORDS and message:
            told: dict[str, Any] = json.loads(message)
            return told
    return {}


def _failed_creation(workloads: Workloads, name: str) -> str | None:
    def look() -> str:
        return workloads.last_warning(name) or ""

    with contextlib.suppress(NotSettled):  # the judgement says that there was none
        return eventually(
            look, bool, within=STILLBORN_WITHIN, every=0.5, what="event of a failed creation"
        )
    return None


def _releases(workloads: Workloads, pods: Mapping[str, str]) -> list[dict[str, Any]]:
    held = allocated(workloads.kube, pods)
    for label in pods:
        workloads.delete_pod(label.partition("/")[2])
    began = time.monotonic()
    freed: dict[tuple[str, str], float] = {}

    def look() -> set[tuple[str, str]]:
        left = allocated(workloads.kube, pods)
        for entry in held - left:
            freed.setdefault(entry, round(time.monotonic() - began, 2))
        for entry in left:
            freed.pop(entry, None)
        held.update(left)  # the pod that fails is tried again until it is gone
        return left

    with contextlib.suppress(NotSettled):  # the judgement says which are left
        eventually(
            look,
            lambda left: not left,
            within=RELEASED_WITHIN,
            every=0.5,
            in_a_row=2,
            what="release of addresses",
            describe=lambda left: listed(f"{address} of {pod}" for pod, address in sorted(left)),
        )
    return [
        {"pod": pod, "node": pods[pod], "address": address, "after": freed.get((pod, address))}
        for pod, address in sorted(held)
    ]


def allocated(kube: Kube, pods: Iterable[str]) -> set[tuple[str, str]]:
    """``(pod, address)`` of every allocation that Calico's IPAM has for some pods, now."""
    wanted = set(pods)
    blocks = [Block.from_api(item) for item in kube.calico("IPAMBlock")]
    return {
        (allocation.pod, str(allocation.address))
        for block in blocks
        for allocation in block.allocations
        if allocation.pod in wanted
    }


def _pods(workloads: Workloads) -> list[Object]:
    return workloads.kube.objects("v1", "Pod", workloads.namespace)


def _story(pods: list[Object]) -> str:
    views = [PodView.from_api(pod) for pod in pods]
    return listed(f"{v.name}: {v.waiting or v.phase} {list(v.pod_ips)}" for v in views)
