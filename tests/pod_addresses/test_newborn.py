"""Judgements over the life of new pods, and the program that runs first in them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import first_contact, newborn
from helpers.findings import told
from helpers.model import FAMILIES, Family
from helpers.verdicts import Blocked

V4, V6 = "10.244.1.5", "fd00:10:244:1::5"
SOON = {"ms": 3.1, "attempts": 1, "errors": {}}


def life(
    *,
    ips: tuple[str, ...] = (V4, V6),
    problem: str | None = None,
    contacts: dict[str, Any] | None = None,
    after: dict[str, float | None] | None = None,
) -> newborn.Life:
    born = {
        "pod": "ns/pod-1",
        "node": "worker",
        "pod_ips": list(ips),
        "problem": problem,
        "contacts": {"ipv4": SOON, "ipv6": SOON} if contacts is None else contacts,
    }
    released = {V4: 1.2, V6: 1.2} if after is None else after
    releases = [
        {"pod": "ns/pod-1", "node": "worker", "address": address, "after": seconds}
        for address, seconds in released.items()
    ]
    raw = {"born": [born], "releases": releases, "failed_creation": "no such pool"}
    return newborn.Life.from_json(json.loads(json.dumps(raw)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_healthy_life_gives_no_findings(family: Family) -> None:
    assert newborn.birth_findings(life(), family) == []
    assert newborn.contact_findings(life(), family) == []
    assert newborn.release_findings(life(), family) == []
    newborn.require_birth(life(), family)


def test_podip_002_a_cni_that_asks_for_one_family_is_named() -> None:
    single = life(ips=(V4,))

    (finding,) = newborn.birth_findings(single, Family.IPV6)

    assert "new pod ns/pod-1 on worker got 10.244.1.5, no IPv6 address" in finding
    assert 'set assign_ipv6 to "true"' in finding
    assert newborn.birth_findings(single, Family.IPV4) == []


def test_podip_002_a_pod_that_is_not_created_tells_its_event() -> None:
    event = "plugin type=calico failed (add): no configured Calico pools"

    for family in FAMILIES:
        (finding,) = newborn.birth_findings(life(ips=(), problem=event), family)
        assert f"no address at all: {event}" in finding
        assert "IPPool of each family selects worker" in finding


def test_podip_002_two_addresses_of_a_family_are_too_many() -> None:
    (finding,) = newborn.birth_findings(life(ips=(V4, V6, "fd00::7")), Family.IPV6)

    assert "2 IPv6 addresses instead of one" in finding


def test_podip_002_blocks_what_is_judged_of_new_pods() -> None:
    with pytest.raises(Blocked, match="PODIP-002"):
        newborn.require_birth(life(ips=(V4,)), Family.IPV6)


def test_podip_007_duplicate_address_detection_is_found() -> None:
    late = {"ms": 1730.0, "attempts": 71, "errors": {"EADDRNOTAVAIL": 70}}

    (finding,) = newborn.contact_findings(life(contacts={"ipv4": SOON, "ipv6": late}), Family.IPV6)

    assert "reached nothing over IPv6 for 1730 ms from its start on (71 attempts: " in finding
    assert "duplicate address detection is on" in finding


def test_podip_007_a_dead_gateway_is_found() -> None:
    never = {"ms": None, "attempts": 14, "errors": {"ETIMEDOUT": 14}}

    (finding,) = newborn.contact_findings(life(contacts={"ipv6": never}), Family.IPV6)

    assert "reached nothing over IPv6 in 14 attempts" in finding
    assert "14 x ETIMEDOUT" in finding


def test_podip_007_a_program_that_did_not_run_is_no_pass() -> None:
    (finding,) = newborn.contact_findings(life(contacts={}, problem="it is Pending"), Family.IPV4)

    assert "did not run its first program: it is Pending" in finding


def test_podip_011_a_del_that_does_nothing_is_found() -> None:
    kept = life(after={V4: None, V6: 31.0})

    (first,) = newborn.release_findings(kept, Family.IPV4)
    (second,) = newborn.release_findings(kept, Family.IPV6)

    assert f"{V4} of deleted pod ns/pod-1 on worker is still allocated after 30 s" in first
    assert f"{V6} of deleted pod ns/pod-1 on worker was released after 31.0 s" in second
    assert "CNI DEL does not release on worker" in told([first, second])


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
