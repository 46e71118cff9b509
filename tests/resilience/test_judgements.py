"""What disturbances are judged by: limits of flows, causes of gaps, pods that come and go."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from helpers.agents.client import Agent
from helpers.flow_model import Flow, FlowKind, FlowReport, Gap, Reset, Stall, Way
from helpers.kube import Object
from helpers.model import FAMILIES, Family
from helpers.requirements import requirements
from helpers.resilience.churn import NewPod, new_pod_findings
from helpers.resilience.disturb import moved_findings
from helpers.resilience.exhaustion import Exhaustion, exhaustion_findings, names_family
from helpers.resilience.happenings import Event, causes, changes, system_state
from helpers.resilience.limits import (
    LIMITS_FILE,
    Limit,
    LimitsError,
    held_up,
    judge,
    limit_of,
    limits,
)
from helpers.resilience.many_pods import Round, churn_findings, creation_seconds, percentile
from helpers.resilience.reboot import STEPS, Return, apart_from, return_findings
from helpers.views import NodeView, PodView

ADDRESSES = {Family.IPV4: ip_address("10.0.0.1"), Family.IPV6: ip_address("fd00::1")}


def agent(name: str = "pod agent on w1") -> Agent:
    made = Agent.__new__(Agent)
    made.name = name
    return made


def flow(kind: FlowKind = FlowKind.TCP, family: Family = Family.IPV6) -> Flow:
    receivers = (agent("b"),) if kind is FlowKind.UDP else ()
    return Flow(
        kind,
        Way.OTHER_NODE,
        agent(),
        ADDRESSES[family],
        "w2",
        receivers=receivers,
        question=("a.", "AAAA") if kind is FlowKind.DNS else None,
    )


def report(of: Flow | None = None, **more: Any) -> FlowReport:
    plain: dict[str, Any] = {
        "flow": of or flow(),
        "began": 0.0,
        "until": 60.0,
        "sent": 1000,
        "lost": 0,
        "gaps": (),
        "gap_count": 0,
        "outage": 0.0,
        "stalls": (),
        "resets": (),
        "reset_count": 0,
        "slowest": 0.01,
        "longest_pause": 0.05,
        "own_errors": 0,
        "uncertainty": 0.001,
    }
    return FlowReport(**{**plain, **more})


def gap(seconds: float, began: float = 10.0, lost: int = 10) -> Gap:
    return Gap(began, seconds, lost, seconds - 0.1, seconds + 0.1)


LIMIT = Limit(frozenset({"RES-001"}), frozenset(FlowKind), frozenset(Way), 5.0, 0.02, 0, "a reason")

# -- limits ---------------------------------------------------------------------------------------


def test_a_flow_within_its_limits_exceeds_nothing() -> None:
    seen = judge(report(lost=20, gaps=(gap(4.9),), stalls=(Stall(1.0, 4.9),)), LIMIT)
    assert (seen.exceeded, seen.unseen) == ((), None)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gaps": (gap(5.2),), "lost": 1}, "a gap of 5.20 s, allowed are 5 s"),
        ({"stalls": (Stall(1.0, 6.0),)}, "a stall of 6.00 s, allowed are 5 s"),
        ({"lost": 30}, "30 of 1000 lost (3.0%), allowed are 2.0%"),
        (
            {"reset_count": 1, "resets": (Reset(1.0, "ECONNRESET"),)},
            "1 resets (ECONNRESET), allowed are 0",
        ),
    ],
)
def test_what_exceeds_a_limit_is_said_with_both_figures(more: dict[str, Any], said: str) -> None:
    seen = judge(report(**more), LIMIT)
    assert (seen.exceeded, seen.unseen) == ((said,), None)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"longest_pause": 5.1}, "its sender was held up for 5.1 s"),
        ({"sent": 1}, "only 1 were sent"),
        (
            {"own_errors": 2, "errors": {"EMFILE": 2}, "lost": 30},
            "2 attempts could not be made: EMFILE",
        ),
    ],
)
def test_who_saw_too_little_proves_nothing(more: dict[str, Any], said: str) -> None:
    assert judge(report(**more), LIMIT).unseen == said


def test_a_loss_that_was_seen_counts_also_when_the_sender_paused() -> None:
    seen = judge(report(gaps=(gap(9.0),), longest_pause=4.0), LIMIT)
    assert seen.exceeded
    assert seen.unseen is None


def test_a_gap_while_the_machine_stood_still_is_neither_a_finding_nor_a_pass() -> None:
    bad = report(gaps=(gap(5.2, began=10.0),), lost=10)
    seen = judge(bad, LIMIT, [(9.0, 11.0)])
    assert seen.exceeded == ()
    assert seen.unseen is not None
    assert "the machine stood still then" in seen.unseen
    assert judge(bad, LIMIT, [(20.0, 30.0)]).exceeded
    outage = report(gaps=(gap(9.0, began=10.0),), lost=10)
    assert judge(outage, LIMIT, [(9.0, 11.0)]).exceeded, "most of it the machine does not explain"


def test_losses_while_the_machine_stood_still_do_not_count() -> None:
    lossy = report(gaps=(gap(1.0, 10.0, lost=15), gap(1.0, 20.0, lost=15)), lost=30)
    assert judge(lossy, LIMIT).exceeded
    assert judge(lossy, LIMIT, [(9.9, 10.2)]).unseen


def test_controls_say_when_the_machine_stood_still() -> None:
    control = Flow(FlowKind.TCP, Way.CONTROL, agent(), ADDRESSES[Family.IPV6], "itself", 8080)
    stalls = (Stall(1.0, 0.5), Stall(1.2, 1.0), Stall(7.0, 0.3))
    others = report(stalls=(Stall(30.0, 9.0),))
    assert held_up([report(control, stalls=stalls), others]) == [(1.0, 2.2), (7.0, 7.3)]


def test_every_flow_of_a_disturbance_has_a_limit() -> None:
    """Of whatever kind and on whatever way: an upgrade must not find out that one is missing."""
    for requirement in ("RES-001", "RES-002", "RES-003", "RES-004", "RES-008", "RES-009"):
        kinds = {
            "RES-001": (FlowKind.TCP, FlowKind.IDLE, FlowKind.UDP, FlowKind.ICMP),
            "RES-002": (FlowKind.CONNECT, FlowKind.DNS),
        }.get(requirement, tuple(FlowKind))
        for kind in kinds:
            assert limit_of(requirement, flow(kind)).longest > 0


def test_limits_name_requirements_that_exist_and_give_reasons() -> None:
    for limit in limits():
        assert limit.during <= requirements().keys()
        assert len(limit.reason) > 20
        assert limit.resets == 0


def test_a_flow_without_a_limit_is_refused() -> None:
    with pytest.raises(LimitsError, match="no limit for tcp other node during RES-006"):
        limit_of("RES-006", flow())


@pytest.mark.parametrize(
    ("change", "said"),
    [({"kinds": ["sctp"]}, "sctp"), ({"ways": ["moon"]}, "moon"), ({"more": 1}, "keys")],
)
def test_a_wrong_entry_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    entry = {**yaml.safe_load(LIMITS_FILE.read_text())["limits"][0], **change}
    file = tmp_path / "limits.yaml"
    file.write_text(yaml.safe_dump({"limits": [entry]}))
    with pytest.raises(LimitsError, match=said):
        limits(file)


# -- causes ---------------------------------------------------------------------------------------


def test_a_gap_is_told_with_what_happened_just_before_and_in_it() -> None:
    events = [
        Event(1.0, "bgp", "w1", "Mesh_a: Established -> Idle", Family.IPV6),
        Event(9.0, "route", "w1", "route removed: fd00::/122 dev eth0 proto bird", Family.IPV6),
        Event(9.1, "route", "w1", "route removed: fd00::40/122 dev eth0 proto bird", Family.IPV6),
        Event(9.5, "bgp", "w2", "Mesh_b: Established -> Connect", Family.IPV6),
        Event(9.6, "bgp", "w2", "Mesh_c: Established -> Connect", Family.IPV4),
        Event(11.0, "process", "w2", "bird6 (pid 7): runs -> absent"),
        Event(30.0, "process", "w2", "bird6 (pid 9): absent -> runs"),
    ]
    said = causes(events, Family.IPV6, 10.0, 14.0)
    assert said == (
        "w2: Mesh_b: Established -> Connect; w2: bird6 (pid 7): runs -> absent; "
        "w1: route removed (2 times)"
    )
    assert causes(events, Family.IPV4, 40.0, 41.0) == "nothing was seen to happen then"


def pod_object(name: str, node: str, *, ready: bool, restarts: int = 0) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


def test_pods_that_change_are_events_and_others_are_none() -> None:
    def look(**pods: Object) -> dict[tuple[str, str], str]:
        return system_state(pods.values(), [], [])

    before = look(
        a=pod_object("calico-node-1", "w1", ready=True), b=pod_object("coredns-1", "w1", ready=True)
    )
    after = look(
        a=pod_object("calico-node-1", "w1", ready=False, restarts=1),
        b=pod_object("coredns-1", "w1", ready=False),
        c=pod_object("kube-proxy-2", "w2", ready=True),
    )
    found = sorted(str(event) for event in changes(before, after, 5.0))
    assert found == [
        "pod on calico-node-1 on w1: Ready, 0 restarts -> not Ready, 1 restarts",
        "pod on kube-proxy-2 on w2: absent -> Ready, 0 restarts",
    ]


def test_a_node_that_is_not_ready_is_an_event() -> None:
    def look(status: str) -> dict[tuple[str, str], str]:
        conditions = [{"type": "Ready", "status": status}]
        node = {"metadata": {"name": "w1"}, "status": {"conditions": conditions}}
        return system_state([], [], [NodeView.from_api(node)])

    (event,) = changes(look("True"), look("Unknown"), 1.0)
    assert str(event) == "node on w1: Ready -> not Ready"


# -- pods -----------------------------------------------------------------------------------------


def pod(name: str, *ips: str, node: str = "w1") -> PodView:
    return PodView.from_api(
        {
            "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": ip} for ip in ips],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )


BOTH = ("10.0.0.1", "fd00::1")


@pytest.mark.parametrize("family", FAMILIES)
def test_new_pods_are_judged_for_each_family(family: Family) -> None:
    mine, other = (ADDRESSES[family], ADDRESSES[family.other])
    quick: dict[Family, float | None] = dict.fromkeys(FAMILIES, 0.1)
    good = NewPod("p", "w1", 3.0, BOTH, quick)
    assert new_pod_findings([good], family) == []
    single = NewPod("p", "w1", 3.0, (str(other),), {family.other: 0.1})
    (said,) = new_pod_findings([single], family)
    assert f"no {family} address" in said
    assert new_pod_findings([single], family.other) == []
    (said,) = new_pod_findings([NewPod("p", "w1", None, (), {}, "no pool")], family)
    assert "60 s after its creation: no pool" in said
    silent = NewPod("p", "w1", 3.0, (str(mine),), {family: None})
    assert "did not answer" in new_pod_findings([silent], family)[0]


def test_a_pod_that_got_another_address_is_named() -> None:
    before = {"n/p (u)": BOTH, "n/gone (v)": BOTH}
    after = {"n/p (u)": ("10.0.0.1", "fd00::2"), "n/new (w)": BOTH}
    assert moved_findings(before, after, Family.IPV4) == []
    (said,) = moved_findings(before, after, Family.IPV6)
    assert "n/p (u) had fd00::1 and has fd00::2" in said


def exhausted(**more: Any) -> Exhaustion:
    plain: dict[str, Any] = {
        "family": Family.IPV6,
        "pool": "tiny",
        "pod": "n/p",
        "event": "plugin failed (add): failed to request IPv6 addresses: Assigned 0 out of 1",
        "pod_ips": (),
        "held": (),
        "recovered_after": 4.0,
    }
    return Exhaustion(**{**plain, **more})


def test_a_pool_that_fails_closed_has_no_finding() -> None:
    assert exhaustion_findings(exhausted()) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"pod_ips": ("10.0.0.5",)}, "runs with 10.0.0.5"),
        ({"event": None}, "has no event"),
        ({"event": "failed to request IPv4 addresses"}, "does not name IPv6"),
        ({"held": ("10.0.0.5",)}, "keeps 10.0.0.5"),
        ({"recovered_after": None}, "does not run with both families 60 s"),
    ],
)
def test_an_exhausted_pool_is_judged(more: dict[str, Any], said: str) -> None:
    (finding,) = exhaustion_findings(exhausted(**more))
    assert said in finding


def test_a_message_names_a_family_as_a_word() -> None:
    assert names_family("cannot find a qualified ippool for IPv6", Family.IPV6)
    assert not names_family("failed: IPv64 and IPv4", Family.IPV6)


def test_churn_is_judged_over_all_rounds() -> None:
    mine = (pod("a", *BOTH), pod("b", "10.0.0.2", "fd00::2"))
    assert churn_findings([Round(mine, mine, (1.0, 2.0), ())]) == []
    twice = (pod("a", *BOTH), pod("b", "10.0.0.1", "fd00::2"))
    assert "10.0.0.1" in churn_findings([Round(twice, (), (), ())])[0]
    single = (pod("a", "10.0.0.9"),)
    assert "no IPv6 address" in churn_findings([Round(single, single, (), ())])[0]
    left = churn_findings([Round((), (), (), ("fd00::7",))])
    assert "still allocated after 30 s: fd00::7" in left[0]
    slow = churn_findings([Round((), (), (1.0, 20.0), ()), Round((), (), (1.0,), ())])
    assert "95 % of 3 pods had their network 20 s" in slow[0]


@pytest.mark.parametrize(("share", "wanted"), [(0.95, 19), (0.5, 10), (1.0, 20), (0.01, 1)])
def test_percentiles_are_nearest_ranks(share: float, wanted: int) -> None:
    assert percentile([float(n) for n in range(20, 0, -1)], share) == wanted


def test_creation_is_measured_by_the_kubelets_own_times() -> None:
    condition = {
        "type": "PodReadyToStartContainers",
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:07Z",
    }
    status = {"startTime": "2026-01-01T00:00:02Z", "conditions": [condition]}
    assert creation_seconds({"status": status}) == 5.0
    assert creation_seconds({"status": {**status, "conditions": []}}) is None
    assert creation_seconds(cast(Object, {})) is None


# -- restarted nodes ------------------------------------------------------------------------------


def test_the_first_thing_that_is_not_back_is_the_finding() -> None:
    seen = Return(after=dict.fromkeys(STEPS, 1.0))
    assert return_findings("w1", Family.IPV6, seen) == []
    half = Return(after={"node": 9.0}, why={"addresses": "InternalIP is None, was fd00::1"})
    (said,) = return_findings("w1", Family.IPV6, half)
    assert "its addresses over IPv6 is not back: InternalIP is None, was fd00::1" in said


def test_flows_apart_from_a_node_do_not_touch_it() -> None:
    def between(source: str, target: str, way: Way = Way.OTHER_NODE) -> Flow:
        sender = agent(f"pod agent on {source}")
        sender.node = source
        return Flow(FlowKind.ICMP, way, sender, ADDRESSES[Family.IPV6], f"pod on {target}")

    kept = between("w1", "w3")
    flows = [kept, between("w2", "w3"), between("w1", "w2"), between("w1", "w3", Way.CLUSTER_IP)]
    assert apart_from("w2", flows) == [kept]
