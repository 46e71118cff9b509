"""How fast packets are built, sent, captured and judged: ``python -m bench packets`` (as root).

The lab of ``tests/lab`` is used: two nodes and three pods in network namespaces. Sender, receiver,
captures and the harness share this machine's cores, so these are lower bounds.
"""

from __future__ import annotations

import time
from typing import Final

from bench.agents import measure
from helpers.model import FAMILIES, Family
from helpers.packet_matrix import judge
from helpers.packet_matrix.flight import fly_until_told, shots
from helpers.packet_matrix.shapes import variants
from helpers.packets import Nonce, upper
from helpers.packets.plain import plain
from helpers.packets.raw import capturing_all
from tests.lab.routes import lab_ways
from tests.lab.topology import Lab, host_addresses, lab_running

BATCH: Final = 10_000
PAIRS: Final = (("p1", "p3"), ("p3", "p1"), ("p1", "p2"), ("p2", "p1"), ("p3", "p2"), ("p2", "p3"))


def prebuilt(family: Family) -> list[str]:
    """Plain packets from p1 to p2 as hex."""
    source, target = (host_addresses(host).require(family) for host in ("p1", "p2"))
    made = []
    for nonce in Nonce.fresh(BATCH):
        layer = upper.udp(source, target, nonce, sport=20_000, dport=9)
        made.append(plain(source, target, layer).hex())
    return made


def building(lab: Lab, family: Family) -> float:
    """Packets of all shapes built in a second."""
    way, every = lab_ways(lab, family)[0], variants(family)
    began, built = time.perf_counter(), 0
    for _ in range(5):
        for variant, nonce in zip(every, Nonce.fresh(len(every)), strict=True):
            built += len(variant.build(way.ends, nonce))
    return built / (time.perf_counter() - began)


def sending(lab: Lab, family: Family) -> float:
    """Prebuilt packets sent in a second, without pauses between them."""
    data = prebuilt(family)
    began = time.perf_counter()
    lab.p1.call("send_packets", 60, packets=data)
    return BATCH / (time.perf_counter() - began)


def capturing(lab: Lab, family: Family) -> float:
    """Packets sent and captured in a second, without pauses; none may be missed."""
    data = prebuilt(family)
    began = time.perf_counter()
    with capturing_all({lab.p2: ["eth0"]}, settle=0.3) as capture:
        lab.p1.call("send_packets", 60, packets=data)
    spent = time.perf_counter() - began
    kept = len(capture.frames[lab.p2])
    if kept != BATCH or any(capture.drops.values()):
        raise SystemExit(f"{kept} of {BATCH} captured, {capture.drops}: the bench measures nothing")
    return BATCH / spent


def matrix(lab: Lab, family: Family) -> float:
    """Seconds of every shape on six ways, built, sent, captured at all places and judged."""
    began = time.perf_counter()
    seen = fly_until_told(shots(lab_ways(lab, family, PAIRS), variants(family)), judge.lacks_error)
    wrong = judge.findings(seen)
    if wrong:
        raise SystemExit(f"{wrong[0]}: the bench measures nothing")
    return time.perf_counter() - began


def main() -> None:
    with lab_running() as lab:
        for family in FAMILIES:
            rates = {"built": building, "sent": sending, "sent and captured": capturing}
            for name, work in rates.items():
                label = f"packets {name}, {family}"
                measure(label, "packets/s", lambda w=work, f=family: w(lab, f))  # type: ignore[misc]
            cells = len(variants(family)) * len(PAIRS)
            label = f"matrix of {cells} cells, {family}"
            measure(label, "s", lambda f=family: matrix(lab, f))  # type: ignore[misc]


if __name__ == "__main__":
    main()
