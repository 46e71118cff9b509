"""What a run leaves and exits with, also when it ends badly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from helpers.waiting import eventually
from reports.model import SCHEMA_FILE

if TYPE_CHECKING:
    from tests.results.conftest import Project

PASS = "def test_svc_007_x(family): pass\n"
CODES = {
    # SVC-007 and CFG-001 are core, SVC-003 extended, SVC-018 informational
    "all pass": (PASS, 0),
    "core fails": (PASS + "def test_cfg_001_x(): assert 0\n", 1),
    "extended fails": (PASS + "def test_svc_003_x(): assert 0\n", 1),
    "informational fails": (PASS + "def test_svc_018_x(): assert 0\n", 0),
    "core blocked": (PASS + "def test_cfg_001_x(): raise Blocked('CFG-009', 'x')\n", 3),
    "core inconclusive": (PASS + "def test_cfg_001_x(): raise Inconclusive('x')\n", 3),
    "extended blocked": (PASS + "def test_svc_003_x(): raise Blocked('CFG-009', 'x')\n", 0),
    "informational lost": (PASS + "def test_svc_018_x(): raise Inconclusive('x')\n", 0),
    "core skipped": (PASS + "def test_cfg_001_x(): pytest.skip('too old')\n", 0),
    "fail before blocked": (
        "def test_svc_007_x(family): raise Blocked('CFG-009', 'x')\ndef test_cfg_001_x(): assert 0",
        1,
    ),
    "nothing decided": ("def test_cfg_001_x(): pytest.skip('too old')\n", 3),
}


@pytest.mark.parametrize(("source", "code"), CODES.values(), ids=CODES)
def test_exit_code(project: Project, source: str, code: int) -> None:
    project.suite(source)
    run = project.run("-n0")
    assert run.code == code, run.output
    assert run.results["summary"]["exitCode"] == code
    assert f"exit {code}: " in run.output


NO_CLUSTER = """
from clusters.errors import UnusableError
@pytest.fixture(scope="session")
def cluster():
    raise UnusableError("creation failed: dockerd needs root: run as root")
""" + "".join(f"def test_svc_{n:03}_x(family, cluster): pass\n" for n in (1, 4, 5, 6, 7, 9, 10))


LOSING = """
from helpers.agents.client import Loss
from helpers.agents.pool import AgentPool
@pytest.fixture(scope="session")
def agents():
    return AgentPool(kube=None, deployed=[])
def test_svc_007_x(family, agents): agents.losses.append(Loss("pod agent on a", "probe", "cut"))
def test_cfg_001_x(agents): pass
"""


def test_lost_agents_are_in_the_results_once_each(project: Project) -> None:
    project.suite(LOSING)
    lost = project.run("-n0").results["lostAgents"]
    assert [(entry["op"], entry["test"].rpartition("[")[2]) for entry in lost] == [
        ("probe", "ipv4]"),
        ("probe", "ipv6]"),
    ]


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_missing_cluster_is_said_once(project: Project, workers: str) -> None:
    project.suite(NO_CLUSTER)
    run = project.run(workers)
    assert run.code == 4
    reason = "no usable cluster: creation failed: dockerd needs root: run as root"
    assert run.results["summary"]["exitReason"] == reason
    assert set(run.verdicts.values()) == {"inconclusive"}
    assert run.output.count("ERROR at setup of") <= 1
    assert "13 without cluster" in run.output
    cases = list(ET.fromstring(run.file("junit.xml")).iter("testcase"))
    assert len(cases) == 14
    assert all(case.find("error") is not None for case in cases)


def test_request_to_stop_keeps_its_code(project: Project) -> None:
    project.suite(
        PASS + "def test_cfg_001_x(): pytest.exit('disk full: free 3 GB', returncode=4)\n"
    )
    run = project.run("-n0")
    assert run.code == 4
    assert run.results["run"]["complete"] is False
    assert run.results["summary"]["exitReason"] == "stopped: disk full: free 3 GB"
    assert run.verdicts[("SVC-007", "ipv6")] == "pass"


def test_first_failure_can_stop_the_run(project: Project) -> None:
    project.suite("def test_svc_003_x(): assert 0\n" + PASS)
    run = project.run("-n0", "-x")
    assert run.code == 1
    assert run.results["run"]["complete"] is False


def test_killed_worker_leaves_an_inconclusive_verdict(project: Project) -> None:
    source = "".join(f"def test_svc_{n:03}_x(family): pass\n" for n in (1, 4, 5, 6))
    kill = "def test_svc_007_x(family):\n    if family == 'ipv6': os.kill(os.getpid(), 9)\n"
    project.suite(source + kill)
    run = project.run("-n2")
    assert run.verdicts[("SVC-007", "ipv6")] == "inconclusive"
    reason = run.entry("SVC-007", "ipv6")["reason"]
    assert "worker 'gw" in reason
    assert "crashed while running" in reason
    assert run.code == 3
    killer = next(
        case
        for case in ET.fromstring(run.file("junit.xml")).iter("testcase")
        if case.attrib["name"] == "test_svc_007_x[ipv6]"
    )
    assert killer.find("error") is not None or killer.find("failure") is not None


def test_tests_lost_with_the_workers_make_the_run_incomplete(project: Project) -> None:
    project.suite(
        "def test_svc_001_x(family): os.kill(os.getpid(), 9)\n"
        + "".join(f"def test_svc_{n:03}_x(family): pass\n" for n in range(4, 17))
    )
    run = project.run("-n1")
    assert run.code == 3
    assert run.results["run"]["complete"] is False


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_results_are_written_as_the_run_goes(
    project: Project, workers: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    project.suite(PASS + f"def test_svc_009_waits(family): open({str(gate)!r}).read()\n")
    process = subprocess.Popen(
        project.command(workers),
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = project.root / "reports" / "out" / "latest" / "results.json"

    def verdicts() -> list[str]:
        if not file.exists():
            return []
        seen = json.loads(file.read_text())
        assert seen["run"]["complete"] is False
        return [f"{r['id']} {r['family']}" for r in seen["requirements"]]

    try:
        seen = eventually(verdicts, lambda found: len(found) >= 2, within=40, every=0.05)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.kill()
    assert seen == ["SVC-007 ipv4", "SVC-007 ipv6"]
    ended = json.loads(file.read_text())
    assert ended["run"]["complete"] is False
    assert ended["summary"]["exitCode"] == 2
    assert process.returncode == 2


def test_results_follow_the_committed_schema(project: Project) -> None:
    project.suite(
        PASS
        + "def test_cfg_001_x(evidence): evidence.attach('a', 'b'); assert 0\n"
        + "def test_svc_018_x(): raise Inconclusive('lost')\n"
    )
    run = project.run("-n0")
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(run.results, schema, cls=jsonschema.Draft202012Validator)
    assert run.results["schema"] == 1
    assert (project.root / "reports/out/latest").is_symlink()
    skipped = {(n["id"], n["family"]): n["reason"] for n in run.results["summary"]["notTested"]}
    assert skipped[("SVC-009", "ipv6")] == "no test yet"


def test_selection_is_told_apart_from_missing_tests(project: Project) -> None:
    project.suite(PASS + "def test_svc_003_x(): pass\n")
    run = project.run("-n0", "--conformance=core")
    assert run.code == 0
    assert set(run.verdicts) == {("SVC-007", "ipv4"), ("SVC-007", "ipv6")}
    missing = {n["id"]: n["reason"] for n in run.results["summary"]["notTested"]}
    assert missing["SVC-003"] == "not selected"
    assert missing["SVC-001"] == "no test yet"
    assert run.results["run"]["profile"] == ["core"]


def test_cluster_facts_reach_results_and_junit(project: Project) -> None:
    project.suite(
        """
from types import SimpleNamespace
@pytest.fixture(scope="session")
def cluster():
    spec = SimpleNamespace(model_dump=lambda mode: {"calico": "3.31.0"})
    return SimpleNamespace(name="prod", owned=False, kubeconfig="/k", context="c", spec=spec)
@pytest.fixture(scope="session")
def facts(cluster):
    node = {"name": "n1", "proxyMode": "ipvs", "kernel": "6.18", "addresses": ["fd00::1"]}
    summary = {"kubernetes": "v1.36.4", "calico": "v3.31.0", "nodes": [node], "more": 1}
    return SimpleNamespace(summary=lambda: summary)
def test_cfg_001_x(facts): pass
def test_svc_007_x(family, cluster): assert 0
"""
    )
    run = project.run("-n2")
    cluster = run.results["cluster"]
    assert cluster["kubernetes"] == "v1.36.4"
    assert cluster["declared"] == {"calico": "3.31.0"}
    assert cluster["nodes"][0]["proxyMode"] == "ipvs"
    assert "--cluster=existing --kubeconfig /k --context c" in run.output
    properties = {
        p.attrib["name"]: p.attrib["value"]
        for p in ET.fromstring(run.file("junit.xml")).iterfind("testsuite/properties/property")
    }
    assert properties["calico"] == "v3.31.0"
    assert properties["node n1"] == "kube-proxy ipvs, kernel 6.18"


def test_collect_only_leaves_nothing(project: Project) -> None:
    project.suite(PASS)
    run = project.run("--collect-only", "-q")
    assert run.code == 0
    assert "test_svc_007_x[ipv6]" in run.output
    assert not (project.root / "reports").exists()


def test_runs_of_other_tests_are_left_alone(project: Project) -> None:
    project.suite(PASS)
    (project.root / "tests").mkdir()
    (project.root / "tests" / "test_x.py").write_text("def test_x(): assert 0\n")
    run = project.run("tests")
    assert run.code == 1
    assert not (project.root / "reports").exists()


def test_wrong_path_is_a_usage_error(project: Project) -> None:
    project.suite(PASS)
    run = project.run("suites/nowhere.py")
    assert run.code == 2
    assert "not found" in run.output
    assert not list((project.root / "reports").rglob("*.xml"))


def test_nothing_selected_keeps_pytests_code(project: Project) -> None:
    project.suite(PASS)
    run = project.run("-k", "nothing_like_it")
    assert run.code == 5


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def test_unnamed(): pass", "begins with the id of its requirement"),
        ("def test_svc_999_x(): pass", "there is no requirement SVC-999"),
        ("def test_svc_007_x(): pass", "take a `family` argument"),
        ("def test_cfg_001_x(family): pass", "takes no `family` argument"),
    ],
)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_wrong_tests_stop_the_run(project: Project, source: str, says: str, workers: str) -> None:
    project.suite(PASS)
    project.suite(source, "services/test_wrong.py")
    run = project.run(workers)
    assert run.code == 3
    assert says in run.output
    assert run.results["run"]["complete"] is False
