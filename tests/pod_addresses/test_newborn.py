"""Judgements over the life of new pods, and the program that runs first in them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from helpers import first_contact, newborn
from helpers.model import FAMILIES, Family
from helpers.verdicts import Blocked

V4, V6 = "10.244.1.5", "fd00:10:244:1::5"
SOON = {"ms": 3.1, "attempts": 1, "errors": {}}


POD = "ns/pod-1"


def birth(
    *,
    ips: tuple[str, ...] = (V4, V6),
    problem: str | None = None,
    contacts: dict[str, Any] | None = None,
) -> newborn.Birth:
    born = {
        "pod": POD,
        "node": "worker",
        "pod_ips": list(ips),
        "problem": problem,
        "contacts": {"ipv4": SOON, "ipv6": SOON} if contacts is None else contacts,
    }
    raw = {
        "born": [born],
        "held": [(POD, "worker", address) for address in ips],
        "failed_pod": ("ns/pod-2", "worker"),
        "failed_event": "no such pool",
    }
    return newborn.Birth.from_json(json.loads(json.dumps(raw)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_healthy_birth_gives_no_findings(family: Family) -> None:
    assert newborn.birth_findings(birth(), family) == []
    assert newborn.contact_findings(birth(), family) == []
    newborn.require_birth(birth(), family)


def test_podip_002_a_cni_that_asks_for_one_family_is_named() -> None:
    single = birth(ips=(V4,))

    (finding,) = newborn.birth_findings(single, Family.IPV6)

    assert "new pod ns/pod-1 on worker got 10.244.1.5, no IPv6 address" in finding
    assert 'set assign_ipv6 to "true"' in finding
    assert newborn.birth_findings(single, Family.IPV4) == []


def test_podip_002_a_pod_that_is_not_created_tells_its_event() -> None:
    event = "plugin type=calico failed (add): no configured Calico pools"

    for family in FAMILIES:
        (finding,) = newborn.birth_findings(birth(ips=(), problem=event), family)
        assert f"no address at all: {event}" in finding
        assert "IPPool of each family selects worker" in finding


def test_podip_002_two_addresses_of_a_family_are_too_many() -> None:
    (finding,) = newborn.birth_findings(birth(ips=(V4, V6, "fd00::7")), Family.IPV6)

    assert "2 IPv6 addresses instead of one" in finding


def test_podip_002_blocks_what_is_judged_of_new_pods() -> None:
    with pytest.raises(Blocked, match="PODIP-002"):
        newborn.require_birth(birth(ips=(V4,)), Family.IPV6)


def test_podip_007_duplicate_address_detection_is_found() -> None:
    late = {"ms": 1730.0, "attempts": 71, "errors": {"EADDRNOTAVAIL": 70}}

    (finding,) = newborn.contact_findings(birth(contacts={"ipv4": SOON, "ipv6": late}), Family.IPV6)

    assert "reached nothing over IPv6 for 1730 ms from its start on (71 attempts: " in finding
    assert "duplicate address detection is on" in finding


def test_podip_007_a_dead_gateway_is_found() -> None:
    never = {"ms": None, "attempts": 14, "errors": {"ETIMEDOUT": 14}}

    (finding,) = newborn.contact_findings(birth(contacts={"ipv6": never}), Family.IPV6)

    assert "reached nothing over IPv6 in 14 attempts" in finding
    assert "14 x ETIMEDOUT" in finding


def test_podip_007_a_program_that_did_not_run_is_no_pass() -> None:
    (finding,) = newborn.contact_findings(birth(contacts={}, problem="it is Pending"), Family.IPV4)

    assert "did not run its first program: it is Pending" in finding


def block(cidr: str, *addresses: str, pod: str = "pod-1") -> dict[str, Any]:
    """An IPAMBlock in which a pod holds addresses."""
    network = ip_network(cidr)
    allocations: list[int | None] = [None] * 64
    for address in addresses:
        allocations[int(ip_address(address)) - int(network.network_address)] = 0
    attributes = [{"handle_id": "h", "secondary": {"pod": pod, "namespace": "ns"}}]
    spec = {"cidr": cidr, "affinity": "host:worker", "allocations": allocations}
    return {"spec": {**spec, "attributes": attributes}}


class FakeKube:
    """IPAM's blocks, one state after the other."""

    def __init__(self, *states: list[dict[str, Any]]) -> None:
        self.states = list(states)
        self.deleted: list[str] = []

    def delete(self, _version: str, _kind: str, name: str, namespace: str) -> bool:
        self.deleted.append(f"{namespace}/{name}")
        return True

    def calico(self, kind: str) -> list[dict[str, Any]]:
        assert kind == "IPAMBlock"
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


BLOCKS = ("10.244.1.0/26", "fd00:10:244:1::/122")


def released(*states: list[dict[str, Any]], family: Family) -> list[newborn.Release]:
    kube: Any = FakeKube(*states)
    found = newborn.releases(kube, birth(), family)
    assert kube.deleted == [POD, "ns/pod-2"]
    return found


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newborn, "RELEASED_WITHIN", 0.3)


@pytest.mark.parametrize(("family", "address"), [(Family.IPV4, V4), (Family.IPV6, V6)])
def test_podip_011_a_release_is_seen_in_its_family(family: Family, address: str) -> None:
    both = [block(BLOCKS[0], V4), block(BLOCKS[1], V6)]

    (release,) = released(both, [], family=family)

    assert str(release.allocation.address) == address
    assert newborn.release_findings([release]) == []


def test_podip_011_a_del_that_does_nothing_is_found(patience: None) -> None:
    (finding,) = newborn.release_findings(released([block(BLOCKS[1], V6)], family=Family.IPV6))

    assert f"{V6} of deleted pod {POD} on worker is still allocated after" in finding
    assert "CNI DEL does not release on worker" in finding


def test_podip_011_what_a_failed_creation_left_is_found(patience: None) -> None:
    left = [block(BLOCKS[0], "10.244.1.9", pod="pod-2")]

    (finding,) = newborn.release_findings(released(left, family=Family.IPV4))

    assert "10.244.1.9 of deleted pod ns/pod-2 on worker is still allocated" in finding


def test_podip_011_a_late_release_is_found() -> None:
    was = newborn.Allocated(POD, "worker", ip_address(V6))

    (finding,) = newborn.release_findings([newborn.Release(was, 31.0)])

    assert f"{V6} of deleted pod {POD} on worker was released after 31.0 s" in finding


def listener(family: int, address: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((address, 0))
    sock.listen()
    return sock


def run_script(tmp_path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    message = tmp_path / "termination-log"
    script = newborn.SCRIPT.read_text().replace("/dev/termination-log", str(message))
    command = [sys.executable, "-c", script, json.dumps(wanted)]
    subprocess.run(command, check=True, timeout=30)
    told: dict[str, Any] = json.loads(message.read_text())
    return told


def test_first_contact_is_made_with_whichever_answers(tmp_path: Path) -> None:
    with listener(socket.AF_INET, "127.0.0.1") as four, listener(socket.AF_INET6, "::1") as six:
        told = run_script(
            tmp_path,
            {
                # Nothing listens on port 9 there, and 192.0.2.1 is nowhere.
                "ipv4": [["192.0.2.1", 9], ["127.0.0.1", four.getsockname()[1]]],
                "ipv6": [["::1", six.getsockname()[1]]],
            },
        )

    assert {name: contact["attempts"] for name, contact in told.items()} == {"ipv4": 1, "ipv6": 1}
    assert all(0 < contact["ms"] < 1000 for contact in told.values())


def test_first_contact_counts_a_refusal_as_an_answer(tmp_path: Path) -> None:
    with listener(socket.AF_INET, "127.0.0.1") as closed:
        port = closed.getsockname()[1]

    told = run_script(tmp_path, {"ipv4": [["127.0.0.1", port]]})

    assert told["ipv4"]["ms"] is not None


def test_first_contact_gives_up_and_says_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_contact, "GIVE_UP", 0.3)
    monkeypatch.setattr(first_contact, "STARTED", first_contact.time.monotonic())

    # The discard prefix has no route, or a default route that leads nowhere (RFC 6666).
    told = first_contact.story(socket.AF_INET6, [["100::1", 9]])

    assert told["ms"] is None
    assert told["attempts"] >= 1
    assert told["errors"]
