"""The life of new pods: one on every node, from its first packet to the release of its addresses.

Pods that already run prove nothing about the next one: most faults of the CNI leave them alone.
The birth of one pod per node is observed once per run, and several requirements judge it. Beside
them one pod is made that cannot get an IPv6 address, so that the addresses of a failed creation
are followed too. Their end is observed by the requirement that judges it.
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
class Allocated:
    """An address that IPAM holds for a pod."""

    pod: str
    node: str
    address: IPAddress


@dataclass(frozen=True, slots=True)
class Release:
    """An allocation of a deleted pod; ``after`` is seconds from deletion, None: still allocated."""

    allocation: Allocated
    after: float | None


@dataclass(frozen=True, slots=True)
class Birth:
    """What was seen of all of them.

    Attributes:
        held: what IPAM held for them while they ran.
        failed_pod: the pod that cannot be created, and the node that it was to run on.
        failed_event: what was said of it, None: it did not fail.
    """

    born: tuple[Newborn, ...]
    held: tuple[Allocated, ...]
    failed_pod: tuple[str, str]
    failed_event: str | None

    @property
    def pods(self) -> dict[str, str]:
        """Every pod that was made, and its node."""
        return {
            **{baby.pod: baby.node for baby in self.born},
            self.failed_pod[0]: self.failed_pod[1],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Birth:
        pod, node = raw["failed_pod"]
        return cls(
            born=tuple(_newborn(item) for item in raw["born"]),
            held=tuple(Allocated(p, n, ip_address(a)) for p, n, a in raw["held"]),
            failed_pod=(pod, node),
            failed_event=raw["failed_event"],
        )


def _newborn(item: Mapping[str, Any]) -> Newborn:
    contacts = {
        Family(name): Contact(told["ms"], told["attempts"], told["errors"])
        for name, told in item["contacts"].items()
    }
    pod_ips = tuple(item["pod_ips"])
    return Newborn(item["pod"], item["node"], pod_ips, item["problem"], contacts)


# -- judgements -----------------------------------------------------------------------------------


def birth_findings(birth: Birth, family: Family) -> list[str]:
    """PODIP-002: each new pod has exactly one address of the family."""
    found = []
    for baby in birth.born:
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


def contact_findings(birth: Birth, family: Family) -> list[str]:
    """PODIP-007: the family works within a second of a container's start."""
    found = []
    for baby in birth.born:
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


def release_findings(releases: Iterable[Release]) -> list[str]:
    """PODIP-011: a deleted pod's address is free again in time, a failed creation's too."""
    found = []
    for release in releases:
        if release.after is not None and release.after <= RELEASED_WITHIN:
            continue
        was = release.allocation
        when = (
            f"is still allocated after {RELEASED_WITHIN:.0f} s"
            if release.after is None
            else f"was released after {release.after:.1f} s, allowed are {RELEASED_WITHIN:.0f} s"
        )
        found.append(
            f"{was.address} of deleted pod {was.pod} on {was.node} {when}: CNI DEL does not "
            f"release on {was.node} (see calico-ipam's messages in the container runtime's log); "
            "`calicoctl ipam release --ip` frees the address"
        )
    return found


def require_birth(birth: Birth, family: Family) -> None:
    """Gate G1 for what is judged of new pods.

    Raises:
        Blocked: by PODIP-002, when a new pod has no address of the family.
    """
    without = [baby.node for baby in birth.born if not baby.of(family)]
    if without:
        raise Blocked("PODIP-002", f"new pods on {listed(without)} get no {family} address", family)


def _counts(errors: Mapping[str, int]) -> str:
    return listed(f"{count} x {name}" for name, count in errors.items())


# -- observation ----------------------------------------------------------------------------------


def birth(state: Path, workloads: Workloads, agents: AgentPool) -> Birth:
    """The birth of this run's new pods, observed by whichever test asks first."""
    return Birth.from_json(once(state, "new-pods", lambda: observe(workloads, agents)))


def observe(workloads: Workloads, agents: AgentPool) -> dict[str, Any]:
    """Make a pod on every node and one that must fail, and watch them come."""
    names = {
        workloads.create_pod(node, mutate=_with_first_contact(contact_targets(agents, node))): node
        for node in agents.nodes
    }
    failing_node = list(agents.nodes)[-1]
    failing = workloads.create_pod(failing_node, annotations=IMPOSSIBLE)
    born = _births(workloads, names)
    labels = {f"{workloads.namespace}/{name}": node for name, node in names.items()}
    held = allocated(workloads.kube, labels)
    return {
        "born": born,
        "held": [(a.pod, a.node, str(a.address)) for a in held],
        "failed_pod": (f"{workloads.namespace}/{failing}", failing_node),
        "failed_event": _failed_creation(workloads, failing),
    }


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


def releases(kube: Kube, birth: Birth, family: Family) -> list[Release]:
    """Delete the pods, as far as that has not happened, and watch IPAM let go of a family."""
    held = {a for a in birth.held if Family.of(a.address) is family}
    for label in birth.pods:
        namespace, _, name = label.partition("/")
        kube.delete("v1", "Pod", name, namespace)
    began = time.monotonic()
    freed: dict[Allocated, float] = {}

    def look() -> list[Allocated]:
        left = [a for a in allocated(kube, birth.pods) if Family.of(a.address) is family]
        held.update(left)  # the pod that fails is tried again until it is gone
        for each in held:
            if each in left:
                freed.pop(each, None)
            else:
                freed.setdefault(each, round(time.monotonic() - began, 2))
        return left

    with contextlib.suppress(NotSettled):  # the judgement says which are left
        eventually(
            look,
            _nothing,
            within=RELEASED_WITHIN,
            every=0.5,
            in_a_row=2,
            what="release of addresses",
            describe=lambda left: listed(f"{a.address} of {a.pod}" for a in left),
        )
    return [Release(each, freed.get(each)) for each in sorted(held, key=lambda a: a.address)]


def _nothing(left: list[Allocated]) -> bool:
    return not left


def allocated(kube: Kube, pods: Mapping[str, str]) -> list[Allocated]:
    """What Calico's IPAM holds for some pods (``namespace/name`` -> node), now."""
    blocks = [Block.from_api(item) for item in kube.calico("IPAMBlock")]
    return [
        Allocated(each.pod, pods[each.pod], each.address)
        for block in blocks
        for each in block.allocations
        if each.pod is not None and each.pod in pods
    ]


def _pods(workloads: Workloads) -> list[Object]:
    return workloads.kube.objects("v1", "Pod", workloads.namespace)


def _story(pods: list[Object]) -> str:
    views = [PodView.from_api(pod) for pod in pods]
    return listed(f"{v.name}: {v.waiting or v.phase} {list(v.pod_ips)}" for v in views)
