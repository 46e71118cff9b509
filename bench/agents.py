"""How fast probes run through one agent: ``python -m bench.agents`` (as root, on any Linux).

The lab of ``tests/lab`` is used: two hosts and a router in network namespaces, both families. The
agent, the echo server and the harness share this machine's cores, so these are lower bounds.
Printed are the median and the range of several rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from helpers.agents.client import Agent
from helpers.model import FAMILIES, Protocol
from helpers.oneway import one_way
from helpers.probes import Outcome, Probe, run, run_all, tcp_bulk
from tests.lab.topology import PORT, host_addresses, lab_running

ROUNDS: Final = 5
BATCH: Final = 5000
BULK: Final = 64 << 20
PROTOCOLS: Final = (Protocol.TCP, Protocol.UDP, Protocol.ICMP)


def measure(label: str, unit: str, work: Callable[[], float]) -> None:
    """Print median and range of what ``work`` returns."""
    seen = [work() for _ in range(ROUNDS)]
    median, low, high = statistics.median(seen), min(seen), max(seen)
    print(f"{label:<44} {median:>9.1f} {unit:<10} ({low:.1f} to {high:.1f})")


def rate(agent: Agent, probe: Probe) -> float:
    """Probes per second of one batch; every one of them must be answered."""
    began = time.perf_counter()
    outcomes = {o.outcome for o in run(agent, [probe] * BATCH)}
    spent = time.perf_counter() - began
    if outcomes != {Outcome.REACHED}:
        raise SystemExit(f"{probe.label}: {outcomes}: the bench measures nothing")
    return BATCH / spent


def matrix_seconds(agents: dict[str, Agent]) -> float:
    """All ordered pairs, both families, TCP, UDP and ICMP: 12 cells."""
    other = {"p1": "p2", "p2": "p1"}
    batches = {
        agent: [
            Probe(p, host_addresses(other[host]).require(f), None if p is Protocol.ICMP else PORT)
            for f in FAMILIES
            for p in PROTOCOLS
        ]
        for host, agent in agents.items()
    }
    began = time.perf_counter()
    run_all(batches)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    with lab_running() as lab:
        for family in FAMILIES:
            target = host_addresses("p2").require(family)
            for protocol in PROTOCOLS:
                port = None if protocol is Protocol.ICMP else PORT
                probe = Probe(protocol, target, port, timeout=10)
                label = f"{protocol} {family}, connect and echo of 32 bytes"
                measure(label, "probes/s", lambda probe=probe: rate(lab.p1, probe))  # type: ignore[misc]
            measure(
                f"tcp {family}, bulk of 64 MiB with SHA-256",
                "MiB/s",
                lambda t=target: 64 / tcp_bulk(lab.p1, t, PORT, BULK).seconds,  # type: ignore[misc]
            )
            measure(
                f"udp {family}, one way, 20 datagrams",
                "ms",
                lambda f=family: timed(lambda: one_way(lab.p1, lab.p2, f, interval=0)),  # type: ignore[misc]
            )
        measure("matrix of 12 cells", "ms", lambda: matrix_seconds({"p1": lab.p1, "p2": lab.p2}))


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
