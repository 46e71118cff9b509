"""Disturbances of what Kubernetes brings: kube-proxy, pools, the API server; each once per run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from helpers.flows import start_remote
from helpers.kube_errors import KubeError
from helpers.model import Family, Protocol
from helpers.once import once
from helpers.own_pools import POOL
from helpers.plan import PROGRAMMED_WITHIN, Kind, all_reached, carry_out, folded, plan
from helpers.proxy_nodes import differences, with_tables
from helpers.proxy_tables import lasting
from helpers.resilience import disturb
from helpers.resilience.study import Outcome, Study, everything, observe, outcome
from helpers.services import agent_service, clients_inside
from helpers.verdicts import Inconclusive
from helpers.waiting import NotSettled, consistently, eventually

if TYPE_CHECKING:
    from helpers.resilience.traffic import Setting

EQUAL_WITHIN: Final = 60.0  # seconds until the rules equal the Services again (RES-004)
DISABLED_FOR: Final = 5.0  # seconds
API_DOWN_FOR: Final = 60.0  # seconds
API_BACK_WITHIN: Final = 90.0  # seconds


# -- kube-proxy -----------------------------------------------------------------------------------


def proxies_restarted(setting: Setting) -> Outcome:
    """RES-004: all kube-proxies restart; a Service made afterwards answers, and rules are equal."""
    kube, families = setting.kube, setting.families

    def act(study: Study) -> None:
        sets = disturb.proxy_sets(kube)
        if not sets:
            raise Inconclusive("no DaemonSet of kube-proxy was found")
        disturb.restart(kube, sets)
        study.expect(
            "RES-004",
            families,
            "rolling restart of kube-proxy",
            lambda: disturb.rolled_out(kube, sets),
        )
        for family in families:
            study.find("RES-004", family, *_new_service(setting, family))
            study.find("RES-004", family, *_unequal(setting, family))

    def compute() -> object:
        flows = setting.place().flows(families)
        judged = {"RES-004": everything}
        return observe("Restart of kube-proxy", kube, setting.agents, flows, act, judged)

    return outcome(once(setting.state, "resilience-proxies", compute), "RES-004")


def _new_service(setting: Setting, family: Family) -> list[str]:
    """Whether a Service that is made now answers everybody in time."""
    service = agent_service(setting.workloads)
    address = service.cluster_ips.of(family)
    if address is None:
        return []  # the API gave it none: CFG-004 judges that
    kind = Kind("tcp", Protocol.TCP, 80)
    steps = plan(clients_inside(setting.agents), {"new clusterIP": address}, [kind], timeout=1.0)
    try:
        eventually(
            lambda: folded(carry_out(steps)),
            all_reached,
            within=PROGRAMMED_WITHIN,
            describe=lambda matrix: matrix.summary(),
            what=f"a Service made after the restart answers over {family}",
        )
    except NotSettled as error:
        return [f"a Service made after kube-proxy's restart does not answer everybody: {error}"]
    return []


def _unequal(setting: Setting, family: Family) -> list[str]:
    """How the rules still differ from the Services ``EQUAL_WITHIN`` after the restart."""
    modes = with_tables(setting.spec, setting.facts)
    if not modes:
        return []  # ipvs everywhere: flows and the new Service are what is judged
    return lasting(
        lambda: differences(setting.kube, setting.facts, setting.agents, modes, family),
        within=EQUAL_WITHIN,
        what=f"rules equal the Services after kube-proxy's restart ({family})",
    )


# -- pools ----------------------------------------------------------------------------------------


@contextmanager
def disabled(setting: Setting, names: list[str]) -> Iterator[None]:
    """Some pools disabled, and enabled again in any case."""

    def set_all(value: bool) -> None:
        for name in names:
            setting.kube.patch(*POOL, name, {"spec": {"disabled": value}})

    try:
        set_all(True)
        yield
    finally:
        set_all(False)


def pools_disabled(setting: Setting, family: Family) -> Outcome:
    """RES-008: every enabled pool of a family is disabled for a while."""
    kube = setting.kube

    def act(study: Study) -> None:
        names = [
            pool["metadata"]["name"]
            for pool in kube.calico("IPPool")
            if Family.of(pool["spec"]["cidr"]) is family and not pool["spec"].get("disabled")
        ]
        if not names:
            raise Inconclusive(f"no pool of {family} is enabled")
        before = disturb.pod_ips(kube)

        def hold() -> None:
            with disabled(setting, names):
                consistently(
                    lambda: disturb.moved_findings(before, disturb.pod_ips(kube), family),
                    lambda moved: not moved,
                    during=DISABLED_FOR,
                    every=1.0,
                    what=f"pods keep their {family} addresses while their pool is disabled",
                )

        study.during(f"pools of {family} disabled: {', '.join(names)}", hold)

    def compute() -> object:
        flows = setting.place().flows([family])
        title = f"Pools of {family} disabled"
        return observe(title, kube, setting.agents, flows, act, {"RES-008": everything})

    return outcome(once(setting.state, f"resilience-pool-{family}", compute), "RES-008")


# -- the API server -------------------------------------------------------------------------------


def api_frozen(setting: Setting) -> Outcome:
    """RES-009: the API servers stand still for a minute (SIGSTOP): they hear and do not answer.

    Whoever thaws them runs beside the flows on the control plane's node: nothing can be asked of a
    cluster without an API. Should it die, kubelet's liveness probe ends the container.
    """
    kube, families = setting.kube, setting.families
    names = [node.name for node in setting.facts.nodes if node.control_plane]

    def frozen() -> None:
        freeze = {"kind": "freeze", "name": "kube-apiserver", "seconds": API_DOWN_FOR}
        remotes = [start_remote(setting.agents.nodes[n], monitors=[freeze]) for n in names]
        eventually(
            lambda: _answers(setting),
            bool,
            within=API_DOWN_FOR + API_BACK_WITHIN,
            every=2.0,
            describe=lambda up: "answers" if up else "does not answer",
            what="the API server answers again",
        )
        for remote in remotes:
            events = [event["text"] for event in remote.ask("report")["events"]]
            remote.ask("end")
            if not any("thawed" in text for text in events):
                raise Inconclusive(f"the API server was not frozen as it should be: {events}")

    def act(study: Study) -> None:
        if not names:
            raise Inconclusive("no node is labelled as control plane: its API server is elsewhere")
        study.during(f"API server frozen for {API_DOWN_FOR:g} s", frozen)

    def compute() -> object:
        flows, title = setting.place().flows(families), "The API server does not answer"
        return observe(title, kube, setting.agents, flows, act, {"RES-009": everything})

    return outcome(once(setting.state, "resilience-api", compute), "RES-009")


def _answers(setting: Setting) -> bool:
    try:
        setting.kube.request("GET", "/readyz/ping", timeout=2.0, attempts=1)
    except KubeError:
        return False
    return True
