"""The disturbances of Calico, with flows around them, each made once per run."""

from __future__ import annotations

from typing import Final

from helpers.flow_model import Flow, FlowKind
from helpers.once import once
from helpers.resilience import disturb
from helpers.resilience.churn import Churn, new_pod_findings
from helpers.resilience.study import Outcome, Study, observe, outcome
from helpers.resilience.traffic import Setting

NEW: Final = frozenset({FlowKind.CONNECT, FlowKind.DNS})


def is_new(flow: Flow) -> bool:
    """Flows that begin again each time."""
    return flow.kind in NEW


def is_old(flow: Flow) -> bool:
    return not is_new(flow)


def everything(_: Flow) -> bool:
    return True


def rolled(requirement: str, setting: Setting) -> Outcome:
    """RES-001, RES-002: all calico-nodes restart, one after the other; pods come meanwhile."""
    kube, agents, families = setting.kube, setting.agents, setting.families

    def act(study: Study) -> None:
        named = disturb.calico_set(kube)
        before = disturb.pod_ips(kube)
        churn = Churn(setting.workloads, agents, list(agents.pods))
        churn.begin()
        disturb.restart(kube, [named])
        study.expect(
            "RES-001",
            families,
            "rolling restart of calico-node",
            lambda: disturb.rolled_out(kube, [named]),
        )
        study.expect(
            "RES-001",
            families,
            "BGP sessions after the roll",
            lambda: disturb.sessions_up(agents, setting.facts, families),
        )
        made, after = churn.end(), disturb.pod_ips(kube)
        for family in families:
            study.find("RES-001", family, *disturb.moved_findings(before, after, family))
            study.find("RES-002", family, *new_pod_findings(made, family))

    def compute() -> object:
        judged = {"RES-001": is_old, "RES-002": is_new}
        flows = setting.place().flows(families)
        return observe("Rolling restart of calico-node", kube, agents, flows, act, judged)

    return outcome(once(setting.state, "resilience-calico-roll", compute), requirement)


def killed(setting: Setting, node: str) -> Outcome:
    """RES-003: one calico-node is killed, program by program, and then deleted as a pod."""
    kube, agents, families = setting.kube, setting.agents, setting.families

    def kill() -> None:
        disturb.kill_calico(agents, node)
        disturb.sessions_up(agents, setting.facts, families)

    def delete() -> None:
        disturb.delete_calico(kube, node)
        disturb.sessions_up(agents, setting.facts, families)

    def act(study: Study) -> None:
        study.expect("RES-003", families, f"SIGKILL of calico-node on {node}", kill)
        study.expect("RES-003", families, f"calico-node pod of {node} deleted", delete)

    def compute() -> object:
        flows, title = setting.place().flows(families), f"Death of calico-node on {node}"
        return observe(title, kube, agents, flows, act, {"RES-003": everything})

    return outcome(once(setting.state, "resilience-calico-death", compute), "RES-003")
