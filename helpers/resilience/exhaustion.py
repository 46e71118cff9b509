"""RES-007: a pool that has no address left, for each family, beside a pool of the other that has.

A pool of four addresses is made that only pods with its annotation use; four pods take them, a
fifth must not run with one family, and must run once one of the four is gone.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from helpers.findings import listed
from helpers.kube_errors import KubeError
from helpers.model import FAMILIES, Family
from helpers.naming import MANAGED_BY, PREFIX
from helpers.once import once
from helpers.own_pools import POOL
from helpers.parallel import on_each
from helpers.resilience.held import still_held
from helpers.verdicts import Blocked
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.resilience.traffic import Setting

SIZE: Final = 4
# Benchmark and documentation prefixes: nobody's, so that no route of the cluster is touched.
PREFIXES: Final = {Family.IPV4: "198.18.{}.{}/30", Family.IPV6: "2001:db8:{:x}:{:x}::/126"}
ANNOTATION: Final = {
    Family.IPV4: "cni.projectcalico.org/ipv4pools",
    Family.IPV6: "cni.projectcalico.org/ipv6pools",
}
FAILS_WITHIN: Final = 45.0  # seconds until the event of the creation that failed
RELEASED_WITHIN: Final = 15.0  # seconds until no address is held for a creation that failed
RECOVERS_WITHIN: Final = 60.0  # seconds from a free address until the pod that waited for it runs


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """What was seen of one family.

    Attributes:
        pool: the pool that was used up.
        event: what was said of the pod too many, None: nothing.
        pod_ips: addresses that the API showed of it before one was free.
        held: addresses that IPAM went on holding for it.
        recovered_after: seconds from the free address until it was Ready with both families.
    """

    family: Family
    pool: str
    pod: str
    event: str | None
    pod_ips: tuple[str, ...]
    held: tuple[str, ...]
    recovered_after: float | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Exhaustion:
        lists = {key: tuple(raw[key]) for key in ("pod_ips", "held")}
        return cls(**{**raw, **lists, "family": Family(raw["family"])})


def names_family(event: str, family: Family) -> bool:
    """Whether Calico's message names the family that has no address left.

    Samples: ``failed to request IPv6 addresses``, ``Assigned 0 out of 1 requested IPv4 addresses``.
    """
    return re.search(rf"\b{family.kubernetes}\b", event) is not None


def exhaustion_findings(seen: Exhaustion) -> list[str]:
    """RES-007: no pod with one family, a message that names it, nothing kept, and recovery."""
    name, other = seen.family.kubernetes, seen.family.other
    where = f"pod {seen.pod}, for which pool {seen.pool} has no {name} address left,"
    found = []
    if seen.pod_ips:
        found.append(
            f"{where} runs with {listed(seen.pod_ips)}: the CNI plugin must fail when a family "
            "cannot be had"
        )
    elif seen.event is None:
        found.append(
            f"{where} has no event {FAILS_WITHIN:g} s after its creation: nobody knows why"
        )
    elif not names_family(seen.event, seen.family):
        found.append(f"{where} has an event that does not name {name}: {seen.event}")
    kept = [address for address in seen.held if Family.of(ip_address(address)) is other]
    if kept and not seen.pod_ips:
        found.append(
            f"{where} keeps {listed(kept)}: addresses of the other family leak with each attempt"
        )
    if seen.recovered_after is None:
        found.append(
            f"{where} does not run with both families {RECOVERS_WITHIN:g} s after an address was "
            "freed: look at the CNI plugin's log on its node"
        )
    return found


def exhaustion(setting: Setting, family: Family) -> Exhaustion:
    """Both families are used up side by side, once per run.

    Raises:
        Blocked: by PODIP-002, when the four pods do not get their addresses.
    """
    raw = once(setting.state, "resilience-exhaustion", lambda: _both(setting))
    if "blocked" in raw[family.value]:
        raise Blocked("PODIP-002", raw[family.value]["blocked"], family)
    return Exhaustion.from_json(raw[family.value])


def _both(setting: Setting) -> dict[str, Any]:
    nodes = list(setting.agents.nodes)
    places = dict(zip(FAMILIES, [nodes[-1], nodes[-2 if len(nodes) > 1 else -1]], strict=True))

    def one(family: Family) -> dict[str, Any]:
        try:
            return _one(setting, family, places[family])
        except Blocked as error:
            return {"blocked": error.reason}

    setting.workloads.ensure_namespace()
    return {family.value: told for family, told in on_each(FAMILIES, one).items()}


@contextmanager
def tiny_pool(setting: Setting, family: Family) -> Iterator[tuple[str, str]]:
    """Name and range of a pool of four addresses that is used on demand only."""
    first, second = secrets.randbelow(255), secrets.randbelow(63) * 4
    cidr = PREFIXES[family].format(first, second)
    name = f"{PREFIX}-tiny-{family}-{secrets.token_hex(3)}"
    setting.kube.create(
        {
            "apiVersion": POOL[0],
            "kind": POOL[1],
            "metadata": {"name": name, "labels": dict(MANAGED_BY)},
            "spec": {
                "cidr": cidr,
                "blockSize": 30 if family is Family.IPV4 else 126,
                "assignmentMode": "Manual",
                "ipipMode": "Never",
                "vxlanMode": "Never",
                "natOutgoing": False,
                "nodeSelector": "all()",
            },
        }
    )
    try:
        yield name, cidr
    finally:
        setting.kube.delete(*POOL, name)


def _one(setting: Setting, family: Family, node: str) -> dict[str, Any]:
    workloads = setting.workloads
    with tiny_pool(setting, family) as (pool, cidr):
        wanted = {ANNOTATION[family]: json.dumps([cidr])}

        def create(number: int) -> str:
            return workloads.create_pod(node, name=f"{family}-{number}", annotations=wanted)

        names = [create(number) for number in range(SIZE)]
        try:
            workloads.wait_pods(names)
            many = create(SIZE)
            label = f"{workloads.namespace}/{many}"
            event = _failure(setting, many)
            ips = [ip for pod in workloads.kube.pods(workloads.namespace) if pod.name == many
                   for ip in pod.pod_ips]  # fmt: skip
            # Attempts come and go meanwhile: what counts is what IPAM never lets go of.
            held = still_held(
                setting.kube, {label: node}, RELEASED_WITHIN, f"nothing is held for {label}"
            )
            workloads.delete_pod(names[0], grace_seconds=0)
            recovered = _recovered(setting, many)
        finally:
            everybody = [*names, f"{family}-{SIZE}"]
            for name in everybody:
                workloads.delete_pod(name, grace_seconds=0)
            # The pool is deleted when none of its addresses is in use any more.
            still_held(
                setting.kube,
                {f"{workloads.namespace}/{name}": node for name in everybody},
                RELEASED_WITHIN,
                "the addresses of the tiny pool are released",
            )
    return {
        "family": family.value,
        "pool": f"{pool} ({cidr})",
        "pod": f"{label} on {node}",
        "event": event,
        "pod_ips": ips,
        "held": held,
        "recovered_after": recovered,
    }


def _failure(setting: Setting, pod: str) -> str | None:
    with contextlib.suppress(NotSettled):
        return eventually(
            lambda: setting.workloads.last_warning(pod) or _running(setting, pod),
            bool,
            within=FAILS_WITHIN,
            every=0.5,
            what=f"the pod too many, {pod}, fails",
        )
    return None


def _running(setting: Setting, pod: str) -> str:
    """A pod that runs will have no event: no need to wait for one."""
    pods = setting.workloads.kube.pods(setting.workloads.namespace)
    return next((f"{p.name} runs" for p in pods if p.name == pod and p.pod_ips), "")


def _recovered(setting: Setting, pod: str) -> float | None:
    began = time.monotonic()
    with contextlib.suppress(NotSettled):
        eventually(
            lambda: [
                p for p in setting.workloads.kube.pods(setting.workloads.namespace) if p.name == pod
            ],
            lambda pods: bool(pods) and pods[0].ready and len(pods[0].pod_ips) == 2,
            within=RECOVERS_WITHIN,
            every=0.5,
            describe=lambda pods: listed(p.waiting or p.phase for p in pods),
            what=f"{pod} runs after an address was freed",
            retry_on=(KubeError,),
        )
        return time.monotonic() - began
    return None
