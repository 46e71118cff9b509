"""Agents' pods that are evicted: what was sent to them is no loss, and later tests find the new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.agents import deploy, pool
from helpers.model import DualAddresses
from tests.agents.test_deploy import NODES, FakeKube, all_pods, opened, pod
from tests.results.conftest import Project, project  # noqa: F401  # fixture

NODE = NODES[0]
NAME = f"{deploy.POD_AGENTS}-{NODE}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "READY_WITHIN", 0.2)


def evicted(name: str = NAME) -> dict[str, Any]:
    """As kubelet leaves it: the pod stays, ended, without an address."""
    made = pod(deploy.POD_AGENTS, NODE, name=name, ready=False, ips=())
    made["status"] |= {"phase": "Failed", "reason": "Evicted"}
    return made


def successor(*ips: str) -> dict[str, Any]:
    return pod(deploy.POD_AGENTS, NODE, name="fresh", ips=ips or ("10.0.0.9", "fd00::9"))


def test_an_evicted_pod_does_not_hide_its_successor(tmp_path: Path) -> None:
    """Else eviction of an agent would block everything by PODIP-002."""
    others = [p for p in all_pods() if p["metadata"]["name"] != NAME]
    for order in ([evicted(), successor()], [successor(), evicted()]):
        folder = tmp_path / order[0]["metadata"]["name"]
        folder.mkdir()
        agents = opened(FakeKube([*others, *order]), folder)
        assert agents.pods[NODE].identity == "fresh"


def test_pods_that_stay_are_not_replaced(tmp_path: Path) -> None:
    assert opened(FakeKube(all_pods()), tmp_path).replaced() == []


@pytest.mark.parametrize(
    ("left", "said"),
    [([], "which is gone"), ([evicted()], "which is Failed")],
    ids=["gone", "evicted"],
)
def test_an_evicted_agent_is_told_and_found_again(
    tmp_path: Path, left: list[dict[str, Any]], said: str
) -> None:
    kube = FakeKube(all_pods())
    agents = opened(kube, tmp_path)
    others = [p for p in kube.made if p["metadata"]["name"] != NAME]
    kube.made = [*others, *left, successor()]
    (told,) = agents.replaced()
    assert NAME in told
    assert said in told
    agent = agents.pods[NODE]
    assert agent.identity == "fresh"
    assert agent.addresses == DualAddresses.parse(["10.0.0.9", "fd00::9"])
    assert agents.replaced() == [], "told once: later tests use the new pod"


def test_an_agent_without_a_successor_is_told_until_it_has_one(tmp_path: Path) -> None:
    kube = FakeKube(all_pods())
    agents = opened(kube, tmp_path)
    kube.made = [p for p in kube.made if p["metadata"]["name"] != NAME]
    assert len(agents.replaced()) == len(agents.replaced()) == 1


FIXTURE = """
pytest_plugins = ["helpers.plugin_results", "reports.collect"]
import pytest
from helpers.kube_errors import KubeError
class Pool:
    def drain_losses(self): return []
    def replaced(self):
        if {mute}: raise KubeError("no answer")
        return {changes!r}
@pytest.fixture
def agents(): return Pool()
"""
LOST = "def test_svc_002_x(agents):\n    assert False, 'nothing answered'\n"


@pytest.mark.parametrize(
    ("changes", "mute", "verdict"),
    [(["the agent is gone"], False, "inconclusive"), ([], False, "fail"), ([], True, "fail")],
)
def test_a_failure_without_its_agents_is_inconclusive(
    project: Project,  # noqa: F811
    changes: list[str],
    mute: bool,
    verdict: str,
) -> None:
    (project.root / "conftest.py").write_text(FIXTURE.format(changes=changes, mute=mute))
    project.suite(LOST)
    run = project.run()
    entry = run.entry("SVC-002", "pair")
    assert entry["verdict"] == verdict
    assert "nothing answered" in entry["reason"]
    assert run.code == (3 if verdict == "inconclusive" else 1)


def test_a_pass_is_not_asked_about(project: Project) -> None:  # noqa: F811
    (project.root / "conftest.py").write_text(FIXTURE.format(changes=["gone"], mute=False))
    project.suite("def test_svc_002_x(agents):\n    pass\n")
    assert project.run().entry("SVC-002", "pair")["verdict"] == "pass"
