"""What continuous flows measure and cost: ``python -m bench flows`` (as root, on any Linux).

In the lab of ``tests/lab``: an outage of a known length in one direction of one family, measured
by each kind of flow, on a machine as it is and with every processor wanted twice; and the
processor time of an agent's flows at the rates that disturbances are watched with.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from helpers.flow_model import Flow, FlowKind, FlowReport, Way
from helpers.flows import flowing
from helpers.model import FAMILIES, Family
from helpers.resilience.traffic import PACE
from helpers.waiting import consistently
from tests.lab.test_flows import busy_machine, cut_through, flow
from tests.lab.topology import PORT, Lab, host_addresses, lab_running

IN_THE_LAB: Final = [kind for kind in PACE if kind is not FlowKind.DNS]  # it has no name server
OUTAGES: Final = (0.05, 0.5, 5.0)
IDLE_SECONDS: Final = float(os.environ.get("BENCH_IDLE_SECONDS", "60"))
KINDS: Final = (FlowKind.UDP, FlowKind.ICMP, FlowKind.CONNECT)


def outages(lab: Lab, label: str) -> None:
    """Planted beside measured."""
    for family in FAMILIES:
        for seconds in OUTAGES:
            flows = [
                flow(lab, FlowKind.UDP, family, interval=0.01),
                *(flow(lab, kind, family) for kind in KINDS[1:]),
            ]
            seen = cut_through(lab, flows, family, seconds)
            print(
                f"{family}, {label}: planted {seen.cut.shortest:.3f} to {seen.cut.longest:.3f} s; "
                + "; ".join(told(seen.reports[each]) for each in flows)
            )


def told(report: FlowReport) -> str:
    every = report.flow.every * 1000
    return f"{report.flow.kind} every {every:.0f} ms: {report.longest_gap:.3f} s"


def idle(lab: Lab) -> None:
    """Nothing is disturbed: nothing may be lost, and what it costs."""
    flows = [calm(lab, kind, family) for kind in IN_THE_LAB for family in FAMILIES]
    with flowing(flows, lease=IDLE_SECONDS + 60) as running:
        pids = [remote.pid for remote in running.senders.values()]
        before = sum(cpu_seconds(pid) for pid in pids)
        began = time.monotonic()
        consistently(lambda: True, bool, during=IDLE_SECONDS, every=IDLE_SECONDS)
        spent = (sum(cpu_seconds(pid) for pid in pids) - before) / (time.monotonic() - began)
        reports = running.stop()
    sent, lost = sum(r.sent for r in reports), sum(r.lost for r in reports)
    resets = sum(r.reset_count for r in reports)
    print(
        f"{len(flows)} flows of one agent, {IDLE_SECONDS:.0f} s undisturbed: {sent} sent, {lost} "
        f"lost, {resets} resets, {spent:.1%} of a processor"
    )


def calm(lab: Lab, kind: FlowKind, family: Family) -> Flow:
    udp = kind is FlowKind.UDP
    return Flow(
        kind,
        Way.OTHER_NODE,
        lab.p1,
        host_addresses("p2").require(family),
        "p2",
        port=None if kind in (FlowKind.UDP, FlowKind.ICMP) else PORT,
        receivers=(lab.p2,) if udp else (),
        interval=PACE[kind],
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    with lab_running() as lab:
        outages(lab, "as it is")
        with busy_machine():
            outages(lab, "every processor wanted twice")
        idle(lab)


if __name__ == "__main__":
    main()
