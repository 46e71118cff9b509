"""The agents as Kubernetes objects, and the pool over an API that a test controls."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import deploy, pool
from helpers.agents.archive import archive, local_archive
from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.agents.transport import ProcessTransport
from helpers.model import DualAddresses, Family
from helpers.naming import AGENT_NAMESPACE, MANAGED_BY
from helpers.verdicts import Blocked, Inconclusive
from helpers.views import NodeView, PodView

NODES = ("n1", "n2")
IMAGE = ("dsc.local/agent:1", "Never")


def daemon_sets() -> dict[str, dict[str, Any]]:
    made = deploy.manifests(*IMAGE)
    return {m["metadata"]["name"]: m for m in made if m["kind"] == "DaemonSet"}


def test_everything_made_is_labelled_as_ours() -> None:
    for manifest in deploy.manifests(*IMAGE):
        assert MANAGED_BY.items() <= manifest["metadata"]["labels"].items()


def test_the_namespace_comes_first_and_admits_privileged_pods() -> None:
    namespace, config_map, *_ = deploy.manifests(*IMAGE)
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", AGENT_NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert base64.b64decode(config_map["binaryData"]["agent.pyz"]) == archive()


def test_readiness_never_crosses_the_network() -> None:
    for daemon_set in daemon_sets().values():
        (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
        assert "exec" in container["startupProbe"]
        assert not {"readinessProbe", "livenessProbe"} & container.keys()


def test_agents_run_on_every_node_whatever_its_taints() -> None:
    for daemon_set in daemon_sets().values():
        spec = daemon_set["spec"]["template"]["spec"]
        assert spec["tolerations"] == [{"operator": "Exists"}]
        assert spec["terminationGracePeriodSeconds"] == 1


def test_only_the_node_agent_is_privileged_and_on_the_host() -> None:
    in_pods = daemon_sets()[deploy.POD_AGENTS]["spec"]["template"]["spec"]
    on_nodes = daemon_sets()[deploy.NODE_AGENTS]["spec"]["template"]["spec"]
    assert on_nodes["hostNetwork"]
    assert on_nodes["hostPID"]
    assert on_nodes["containers"][0]["securityContext"] == {"privileged": True}
    assert "hostNetwork" not in in_pods
    assert "privileged" not in in_pods["containers"][0]["securityContext"]


def test_agents_are_never_without_a_share_of_the_processor() -> None:
    pool = [d["spec"]["template"]["spec"]["containers"][0] for d in daemon_sets().values()]
    own = deploy.agent_pod("ns", "p", image="i", pull_policy="Never")["spec"]["containers"][0]
    assert {c["resources"]["requests"]["cpu"] for c in pool} == {deploy.POOL_CPU}
    assert own["resources"]["requests"]["cpu"] == deploy.TEST_CPU


def test_ports_on_the_host_do_not_collide() -> None:
    ports = {deploy.POD_PORT, deploy.NODE_PORT, deploy.HOST_POD_PORT}
    assert len(ports) == 3
    spec = deploy.agent_pod_spec(*IMAGE, host_network=True)
    assert str(deploy.HOST_POD_PORT) in spec["containers"][0]["command"]


def test_another_program_is_another_pod_template(monkeypatch: pytest.MonkeyPatch) -> None:
    before = daemon_sets()[deploy.POD_AGENTS]["spec"]["template"]
    monkeypatch.setattr(deploy, "agent_version", lambda: "other")
    assert daemon_sets()[deploy.POD_AGENTS]["spec"]["template"] != before


def test_a_pod_of_a_test_may_be_bound_to_a_node_and_labelled() -> None:
    pod = deploy.agent_pod(
        "ns", "web-0", image="i", pull_policy="Never", node="n1", labels={"app": "web"}
    )
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["metadata"]["labels"]["app"] == "web"
    assert "nodeName" not in deploy.agent_pod("ns", "p", image="i", pull_policy="Never")["spec"]


# -- pool -----------------------------------------------------------------------------------------


class FakeKube:
    """Nodes, pods, and what was applied."""

    def __init__(self, pods: list[dict[str, Any]]) -> None:
        self.made = pods
        self.applied: list[dict[str, Any]] = []

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        self.applied += manifests

    def nodes(self) -> list[NodeView]:
        return [NodeView.from_api({"metadata": {"name": name}}) for name in NODES]

    def pods(self, namespace: str, selector: str | None = None) -> list[PodView]:
        role = selector.partition("=")[2] if selector else None
        views = map(PodView.from_api, self.made)
        return [v for v in views if role is None or v.labels[deploy.ROLE] == role]

    def get(self, _version: str, _kind: str, name: str, namespace: str) -> Any:
        return next((p for p in self.made if p["metadata"]["name"] == name), None)


def pod(role: str, node: str, *, ready: bool = True, ips: tuple[str, ...] = ("10.0.0.1", "fd00::1"),
        name: str | None = None) -> dict[str, Any]:  # fmt: skip
    return {
        "metadata": {
            "name": name or f"{role}-{node}",
            "namespace": AGENT_NAMESPACE,
            "uid": f"uid-{name or role}-{node}",
            "labels": {deploy.ROLE: role},
            "annotations": {deploy.VERSION: deploy.agent_version()},
        },
        "spec": {"nodeName": node, "hostNetwork": role == deploy.NODE_AGENTS},
        "status": {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "podIPs": [{"ip": ip} for ip in ips],
        },
    }


def all_pods(**overrides: dict[str, Any]) -> list[dict[str, Any]]:
    made = {
        f"{role}-{node}": pod(role, node)
        for role in (deploy.POD_AGENTS, deploy.NODE_AGENTS)
        for node in NODES
    }
    return list({**made, **overrides}.values())


def opened(kube: FakeKube, state: Path) -> AgentPool:
    return AgentPool.open(kube, state, image="i", pull_policy="Never")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "READY_WITHIN", 0.2)


def test_agents_are_found_by_node(tmp_path: Path) -> None:
    agents = opened(FakeKube(all_pods()), tmp_path)
    assert set(agents.pods) == set(agents.nodes) == set(NODES)
    agent = agents.nodes["n1"]
    assert (agent.node, agent.port, agent.identity) == ("n1", deploy.NODE_PORT, "node-agent-n1")
    assert str(agents.pods["n2"].addresses.require(Family.IPV6)) == "fd00::1"
    assert agents.outside is None


def test_the_second_worker_does_not_deploy_again(tmp_path: Path) -> None:
    opened(FakeKube(all_pods()), tmp_path)
    second = FakeKube([])
    assert set(opened(second, tmp_path).pods) == set(NODES)
    assert second.applied == []


def test_a_pod_agent_without_network_blocks_and_the_others_work(tmp_path: Path) -> None:
    broken = {"agent-n2": pod(deploy.POD_AGENTS, "n2", ready=False, ips=())}
    agents = opened(FakeKube(all_pods(**broken)), tmp_path)
    assert agents.pods["n1"].node == "n1"
    assert set(agents.nodes) == set(NODES)
    with pytest.raises(Blocked, match="agent on n2 does not run: it is Pending"):
        agents.pods["n2"]
    with pytest.raises(Blocked):
        list(agents.pods)  # a test over all nodes must not silently test fewer
    assert len(agents.pods) == 2


def test_a_node_agent_that_does_not_run_is_inconclusive(tmp_path: Path) -> None:
    broken = {"node-agent-n1": pod(deploy.NODE_AGENTS, "n1", ready=False)}
    agents = opened(FakeKube(all_pods(**broken)), tmp_path)
    with pytest.raises(Inconclusive, match="node-agent on n1 does not run"):
        agents.nodes["n1"]


def test_pods_of_an_older_program_do_not_count(tmp_path: Path) -> None:
    old = pod(deploy.POD_AGENTS, "n1")
    old["metadata"]["annotations"][deploy.VERSION] = "older"
    agents = opened(FakeKube(all_pods(**{"agent-n1": old})), tmp_path)
    with pytest.raises(Blocked, match="it has no pod yet"):
        agents.pods["n1"]


def test_single_stack_pods_are_still_agents(tmp_path: Path) -> None:
    """Whether a family is missing is for the requirements to say, not for the pool."""
    lame = {"agent-n1": pod(deploy.POD_AGENTS, "n1", ips=("10.0.0.9",))}
    agents = opened(FakeKube(all_pods(**lame)), tmp_path)
    assert agents.pods["n1"].addresses.of(Family.IPV6) is None


def test_any_agent_pod_can_be_asked_and_is_asked_by_one_session(tmp_path: Path) -> None:
    kube = FakeKube([*all_pods(), pod("mine", "n1", name="web-0")])
    agents = opened(kube, tmp_path)
    first = agents.for_pod("ns", "web-0")
    assert agents.for_pod("ns", "web-0") is first
    kube.made[-1]["metadata"]["uid"] = "recreated"
    assert agents.for_pod("ns", "web-0") is not first
    with pytest.raises(LookupError, match="no pod ns/nope"):
        agents.for_pod("ns", "nope")
    agents.release("ns")
    agents.close()


def test_a_replaced_daemon_pod_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[str] = []

    def local(_kube: object, _ns: str, name: str, *_: object) -> ProcessTransport:
        connected.append(name)
        return ProcessTransport([sys.executable, "-u", str(local_archive()), "run", "--name", name])

    monkeypatch.setattr(pool, "ExecTransport", local)
    kube = FakeKube(all_pods())
    agents = opened(kube, tmp_path)
    agent: Agent = agents.pods["n1"]
    pid = agent.hello["pid"]
    kube.made[0] = pod(deploy.POD_AGENTS, "n1", name="agent-new", ips=("10.0.0.7", "fd00::7"))
    with pytest.raises(Inconclusive):
        agent.call("run", argv=["kill", "-9", str(pid)])
    assert agent.hello["name"] == "agent-new"
    assert connected == ["agent-n1", "agent-new"]
    assert agent.addresses == DualAddresses.parse(["10.0.0.7", "fd00::7"])
    assert agent.identity == "agent-new"
    assert [loss.agent for loss in agents.losses] == ["pod agent on n1"]
    agents.close()
