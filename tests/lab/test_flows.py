"""Continuous flows against outages whose length is known.

The outage is planted in a node's packet filter, in one direction of one family. Its edges are
known as well as netlink answers: what a flow measures must agree within one of its intervals.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from helpers import clocks
from helpers.flow_model import Flow, FlowKind, FlowReport, Way
from helpers.flows import RunningFlows, flowing, start, start_remote
from helpers.model import FAMILIES, Family, Protocol
from helpers.verdicts import Inconclusive
from helpers.waiting import consistently, eventually
from tests.lab import faults, nft
from tests.lab.topology import PORT, Lab, host_addresses

ALL = (FlowKind.UDP, FlowKind.ICMP, FlowKind.TCP, FlowKind.CONNECT, FlowKind.IDLE)
BURNERS = 2 * (os.cpu_count() or 1)


@dataclass(slots=True)
class Outage:
    """A planted outage: began and ended between two readings of the clock each."""

    before: float = 0.0
    begun: float = 0.0
    ending: float = 0.0
    over: float = 0.0

    @property
    def shortest(self) -> float:
        return self.ending - self.begun

    @property
    def longest(self) -> float:
        return self.over - self.before


def hold(seconds: float) -> None:
    consistently(lambda: True, bool, during=seconds, every=max(seconds, 0.001))


def flow(lab: Lab, kind: FlowKind, family: Family, source: str = "p1", **more: float) -> Flow:
    to = {"p1": "p2", "p2": "p1"}[source]
    udp = kind is FlowKind.UDP
    return Flow(
        kind,
        Way.OTHER_NODE,
        lab.agents[source],
        host_addresses(to).require(family),
        to,
        port=None if kind in (FlowKind.UDP, FlowKind.ICMP) else PORT,
        receivers=(lab.agents[to],) if udp else (),
        **more,
    )


@contextmanager
def outage(lab: Lab, family: Family, seconds: float) -> Iterator[Outage]:
    """Everything toward p2 is dropped in one family, for a time."""
    rule = [*nft.toward(host_addresses("p2").require(family)), *nft.drop()]
    cut = Outage(before=time.time())
    with faults.fault(lab.namespace("n2"), family, rule):
        cut.begun = time.time()
        hold(seconds)
        cut.ending = time.time()
    cut.over = time.time()
    yield cut


def cut_through(lab: Lab, flows: Sequence[Flow], family: Family, seconds: float) -> Measured:
    with flowing(flows) as running:
        hold(0.4)
        with outage(lab, family, seconds) as cut:
            hold(0.4 if seconds < 1 else 4.0)  # TCP's retransmission timer may be as long again
        return Measured(cut, {report.flow: report for report in running.stop()})


@dataclass(slots=True)
class Measured:
    cut: Outage
    reports: dict[Flow, FlowReport]


def agrees(report: FlowReport, cut: Outage) -> None:
    """One gap, where the outage was, as long as it was, within one interval and the clocks."""
    if not report.gaps:
        # A busy machine may hold the sender up for all of a short outage; then it says so.
        assert report.longest_pause >= cut.shortest - report.flow.every, report
        return
    clock, gap = report.uncertainty, report.gaps[0]
    # Where a busy machine held the sender up at an edge of the gap, the gap itself says so.
    edges = max(gap.seconds - gap.at_least, gap.at_most - gap.seconds)
    slack = max(report.flow.every, edges) + clock
    assert report.gap_count == 1, report
    assert cut.shortest - slack <= gap.seconds <= cut.longest + slack, report
    assert gap.at_least <= cut.longest + clock
    assert gap.at_most >= cut.shortest - clock
    assert gap.began >= cut.before - clock - 0.01
    assert gap.ended <= cut.over + slack + 0.01
    assert report.lost == gap.lost == round(report.share_lost * report.sent)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_fault_nothing_is_lost_and_nobody_stalls(lab: Lab, family: Family) -> None:
    flows = [flow(lab, kind, family) for kind in ALL]
    with flowing(flows) as running:
        hold(1.5)
        reports = running.stop()
    for report in reports:
        assert (report.lost, report.gaps, report.resets, report.errors) == (0, (), (), {}), report
    by_kind = {report.flow.kind: report for report in reports}
    assert by_kind[FlowKind.UDP].sent > 40
    assert by_kind[FlowKind.IDLE].sent == 2, "at its beginning and at its end"
    assert set(by_kind[FlowKind.TCP].servers) == {"p2"}
    assert set(by_kind[FlowKind.UDP].servers) == {str(host_addresses("p1").require(family))}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seconds", [0.05, 0.5, 5.0])
def test_a_gap_is_measured_within_one_interval(lab: Lab, family: Family, seconds: float) -> None:
    there = [
        flow(lab, FlowKind.UDP, family, interval=0.01),
        *(flow(lab, kind, family) for kind in (FlowKind.ICMP, FlowKind.CONNECT)),
    ]
    back = flow(lab, FlowKind.UDP, family, source="p2", interval=0.01)
    other = flow(lab, FlowKind.UDP, family.other, interval=0.01)
    seen = cut_through(lab, [*there, back, other], family, seconds)
    for each in there:
        if each.every < seconds:  # a flow that looks more rarely may not notice
            agrees(seen.reports[each], seen.cut)
    for each in (back, other):
        assert (seen.reports[each].lost, seen.reports[each].gaps) == (0, ()), seen.reports[each]


@contextmanager
def busy_machine() -> Iterator[None]:
    """Twice as many processes as processors want all of the machine."""
    argv = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(argv) for _ in range(BURNERS)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_busy_machine_is_no_gap_and_hides_none(lab: Lab, family: Family) -> None:
    flows = [
        flow(lab, FlowKind.UDP, family, interval=0.01),
        flow(lab, FlowKind.ICMP, family),
        flow(lab, FlowKind.UDP, family.other, interval=0.01),
    ]
    with busy_machine():
        seen = cut_through(lab, flows, family, 0.5)
    udp, icmp, other = flows
    agrees(seen.reports[udp], seen.cut)
    agrees(seen.reports[icmp], seen.cut)
    assert (seen.reports[other].lost, seen.reports[other].gaps) == (0, ()), seen.reports[other]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_percent_is_counted_and_its_gaps_are_short(lab: Lab, family: Family) -> None:
    rule = [*nft.toward(host_addresses("p2").require(family)), *nft.every(100), *nft.drop()]
    flows = [
        flow(lab, FlowKind.UDP, family, interval=0.005),
        flow(lab, FlowKind.UDP, family, source="p2", interval=0.005),
    ]
    with faults.fault(lab.namespace("n2"), family, rule), flowing(flows) as running:
        hold(4.0)
        there, back = running.stop()
    assert there.sent // 100 <= there.lost <= there.sent // 100 + 1
    assert there.gap_count == there.lost
    assert 0 < there.outage <= there.lost * (0.005 + there.longest_pause)
    assert there.longest_gap <= 0.005 + there.longest_pause
    assert back.lost == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_an_established_connection_stalls_and_a_reset_is_counted(lab: Lab, family: Family) -> None:
    busy, idle = flow(lab, FlowKind.TCP, family), flow(lab, FlowKind.IDLE, family)
    seen = cut_through(lab, [busy, idle], family, 1.0)
    stalled = seen.reports[busy]
    assert (stalled.lost, stalled.resets) == (0, ())
    assert stalled.longest_stall > seen.cut.shortest - busy.every
    assert stalled.stalls[0].began <= seen.cut.begun + 2 * busy.every + stalled.uncertainty
    assert (seen.reports[idle].lost, seen.reports[idle].stalls) == (0, ())

    rule = [*nft.speaking(family, Protocol.TCP, PORT), *nft.reset()]
    with flowing([busy, idle]) as running:
        hold(0.5)
        with faults.fault(lab.namespace("n2"), family, rule):
            hold(0.5)
        hold(1.5)
        reports = {report.flow: report for report in running.stop()}
    assert reports[busy].reset_count == 1, reports[busy]
    assert "ECONNRESET" in reports[busy].resets[0].why
    assert reports[busy].lost > 0
    assert not reports[busy].gaps[0].still, "it was connected anew"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_an_idle_connection_lost_shows_at_its_end(lab: Lab, family: Family) -> None:
    idle = flow(lab, FlowKind.IDLE, family, patience=0.5)
    with flowing([idle]) as running:
        hold(0.5)
        with faults.fault(lab.namespace("n2"), family, nft.drop()):
            (report,) = running.stop()
    assert (report.sent, report.lost) == (2, 1)
    assert report.gaps[0].still


def ended(pid: int) -> bool:
    """Gone, or a zombie whose parent has not asked for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("family", FAMILIES)
def test_flows_outlive_the_session_that_started_them(lab: Lab, family: Family) -> None:
    flows = [flow(lab, kind, family) for kind in (FlowKind.UDP, FlowKind.TCP)]
    with flowing(flows) as running:
        hold(0.4)
        before = {report.flow: report.sent for report in running.look()}
        for agent in (lab.p1, lab.p2):
            agent.close()
        hold(0.4)
        after = running.stop()
    for report in after:
        assert report.sent > before[report.flow]
        assert (report.lost, report.resets) == (0, ()), report
    pid = running.senders[lab.p1].pid
    eventually(lambda: ended(pid), bool, within=5, every=0.1)
    with pytest.raises(Inconclusive, match="refused"):
        running.senders[lab.p1].ask("report")


def test_flows_that_nobody_asks_for_end_by_themselves(lab: Lab) -> None:
    running = RunningFlows()
    start(running, [flow(lab, FlowKind.ICMP, Family.IPV6)], lease=0.5)
    remote = running.senders[lab.p1]
    hold(1.5)
    with pytest.raises(Inconclusive, match="refused"):
        remote.ask("report")


def test_a_receiver_whose_port_is_taken_is_not_started(lab: Lab) -> None:
    taken = flow(lab, FlowKind.UDP, Family.IPV6)
    with (
        pytest.raises(Inconclusive, match="Address already in use"),
        flowing([replace(taken, listen=PORT)]),
    ):
        pass


def test_clocks_of_agents_on_one_machine_agree(lab: Lab) -> None:
    """The lab's agents share a kernel: what is measured as their offset is what it can be off."""
    a, b = clocks.read(lab.p1), clocks.read(lab.p2)
    off = (a.ours - a.theirs) - (b.ours - b.theirs)
    assert abs(off) <= a.uncertainty + b.uncertainty
    assert max(a.uncertainty, b.uncertainty) < 0.1


def test_routes_that_change_are_noted_when_they_do(lab: Lab) -> None:
    watching = start_remote(lab.p1, monitors=[{"kind": "routes"}])
    began = watching.first
    for command in ("add", "del"):
        for prefix in ("198.51.100.0/24", "2001:db8:77::/64"):
            route = ["ip", "route", command, prefix, "dev", "eth0", "proto", "12"]
            assert lab.p1.call_one("run", argv=route)["rc"] == 0
    events = watching.ask("report")["events"]
    watching.ask("end")
    assert [(e["version"], e["text"]) for e in events if e["kind"] == "route"] == [
        (4, "route added: 198.51.100.0/24 dev eth0 proto bird"),
        (6, "route added: 2001:db8:77::/64 dev eth0 proto bird"),
        (4, "route removed: 198.51.100.0/24 dev eth0 proto bird"),
        (6, "route removed: 2001:db8:77::/64 dev eth0 proto bird"),
    ]
    assert all(began.theirs <= event["at"] for event in events)


def test_processes_that_begin_and_end_are_noted(lab: Lab) -> None:
    watching = start_remote(
        lab.p1, monitors=[{"kind": "processes", "names": ["sleep"], "interval": 0.05}]
    )
    hold(0.3)
    with subprocess.Popen(["sleep", "60"]) as process:
        hold(0.5)
        process.kill()
    hold(0.5)
    texts = [event["text"] for event in watching.ask("report")["events"]]
    watching.ask("end")
    name = f"sleep (pid {process.pid})"
    assert f"{name}: absent -> runs" in texts
    assert f"{name}: runs -> absent" in texts
