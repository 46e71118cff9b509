"""The disturbances of Calico, with flows around them, each made once per run."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from helpers.flow_model import Flow, FlowKind
from helpers.model import Family
from helpers.once import once
from helpers.resilience import disturb, snapshot
from helpers.resilience.churn import Churn, NewPod, new_pod_findings, new_pod_record
from helpers.resilience.rolls import Roll, release_findings, require_rolled
from helpers.resilience.sessions import session_findings
from helpers.resilience.study import CALM_AFTER, Outcome, Study, everything, observe, outcome
from helpers.resilience.traffic import Setting

NEW: Final = frozenset({FlowKind.CONNECT, FlowKind.DNS})
CALM_AFTER_RELEASE: Final = 15.0  # seconds: what another release does late still counts


def is_new(flow: Flow) -> bool:
    """Flows that begin again each time."""
    return flow.kind in NEW


def is_old(flow: Flow) -> bool:
    return not is_new(flow)


def rolled(requirement: str, setting: Setting) -> Outcome:
    """RES-001, RES-002: all calico-nodes restart, one after the other; pods come meanwhile.

    With ``--calico-roll`` what makes them restart is the manifest of another release, and the
    state of the data path before and after is kept with what differs.
    """
    roll = setting.roll

    def compute() -> Any:
        flows = setting.place().flows(setting.families)
        before = snapshot.take(setting.kube, setting.agents)
        made: list[NewPod] = []
        told = observe(
            roll.title,
            setting.kube,
            setting.agents,
            flows,
            lambda study: made.extend(_roll(study, setting, roll)),
            {"RES-001": is_old, "RES-002": is_new},
            after=CALM_AFTER_RELEASE if roll.tag else CALM_AFTER,
            of_events={"RES-001": partial(session_findings, "RES-001")},
        )
        after = snapshot.take(setting.kube, setting.agents)
        told["pods"] = {"new-pods.json": [new_pod_record(pod) for pod in made]}
        told["files"] = {
            "changes.json": snapshot.figure(before, after, roll.names),
            "state-before.json": before,
            "state-after.json": after,
        }
        return told

    raw = once(setting.state, "resilience-calico-roll", compute)
    found = outcome(raw, requirement)
    found.files.update(raw["files"] if requirement == "RES-001" else raw["pods"])
    return found


def _roll(study: Study, setting: Setting, roll: Roll) -> list[NewPod]:
    """The roll, and the pods that were made meanwhile."""
    kube, families = setting.kube, setting.families
    named = disturb.calico_set(kube)
    before, nodes = disturb.pod_ips(kube), disturb.calico_pods(kube)
    churn = Churn(setting.workloads, setting.agents, list(setting.agents.pods))
    churn.begin()
    study.during(roll.title, lambda: roll.begin(kube))
    waits = {
        "roll of calico-node": lambda: disturb.rolled_out(kube, [named]),
        "calico-kube-controllers run": lambda: disturb.controllers_run(kube, named[0]),
        "BGP sessions after the roll": lambda: _sessions_up(setting),
    }
    for what, wait in waits.items():
        study.expect("RES-001", families, what, wait)
    made, after = churn.end(), disturb.pod_ips(kube)
    require_rolled(roll, nodes, disturb.calico_pods(kube))
    for family in families:
        study.find("RES-001", family, *_afterwards(setting, roll, family, before, after))
        study.find("RES-002", family, *new_pod_findings(made, family))
    return made


def _sessions_up(setting: Setting) -> None:
    """Where the profile has BGP; without it there is no BIRD to ask."""
    if setting.spec.bgp:
        disturb.sessions_up(setting.agents, setting.facts, setting.families)


def _afterwards(
    setting: Setting,
    roll: Roll,
    family: Family,
    before: dict[str, tuple[str, ...]],
    after: dict[str, tuple[str, ...]],
) -> list[str]:
    found = disturb.moved_findings(before, after, family)
    if roll.tag is not None:
        pods = setting.kube.objects("v1", "Pod", selector=disturb.NODE_SELECTOR)
        found += release_findings(pods, roll.tag)
    return found


def killed(setting: Setting, node: str) -> Outcome:
    """RES-003: one calico-node is killed, program by program, and then deleted as a pod."""
    kube, agents, families = setting.kube, setting.agents, setting.families

    def kill() -> None:
        disturb.kill_calico(agents, node)
        _sessions_up(setting)

    def delete() -> None:
        disturb.delete_calico(kube, node)
        _sessions_up(setting)

    def act(study: Study) -> None:
        study.expect("RES-003", families, f"SIGKILL of calico-node on {node}", kill)
        study.expect("RES-003", families, f"calico-node pod of {node} deleted", delete)

    def compute() -> object:
        flows, title = setting.place().flows(families), f"Death of calico-node on {node}"
        return observe(title, kube, agents, flows, act, {"RES-003": everything})

    return outcome(once(setting.state, "resilience-calico-death", compute), "RES-003")
