"""The parts on their own: processes, records, runtime, networks, routes, preflight, engine."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from clusters import dockerd, engine, networks, oci_runtime, outside, preflight, processes, records
from clusters.commands import run, run_logged
from clusters.errors import (
    ClusterError,
    CommandFailedError,
    EngineError,
    PreflightError,
    UnusableError,
)
from clusters.existing import answering, kubeconfig_path
from clusters.processes import Identity
from clusters.spec import load_profile
from helpers.model import DualAddresses
from helpers.views import NodeView

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\n"
    "while True: signal.pause()",
]


# -- processes -----------------------------------------------------------------------------------


def test_identity_is_not_fooled_by_a_pid_that_is_used_again() -> None:
    own = Identity.own()
    assert own.alive
    assert not Identity(own.pid, own.started + 1, own.boot).alive
    assert not Identity(own.pid, own.started, "another boot").alive


def test_identity_of_a_zombie_is_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        identity = Identity.of(child.pid)
        assert identity is not None
        assert processes.wait_gone([identity], within=20)
        assert Identity.of(child.pid) is None  # not waited for yet: a zombie


def test_process_that_ignores_sigterm_is_killed() -> None:
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # the handler is there
        identity = Identity.of(child.pid)
        assert identity is not None
        identity.end(grace=0.3)
        assert child.wait() == -signal.SIGKILL


def test_processes_are_found_by_the_mark_of_their_run() -> None:
    with subprocess.Popen(SLEEPER, env={**os.environ, processes.RUN_VARIABLE: "abc-1"}) as child:
        assert [p.pid for p in processes.with_variable(processes.RUN_VARIABLE, "abc-1")] == [
            child.pid
        ]
        assert processes.with_variable(processes.RUN_VARIABLE, "abc") == []
        child.kill()


# -- commands ------------------------------------------------------------------------------------


def test_failed_command_tells_the_end_of_its_output() -> None:
    with pytest.raises(CommandFailedError, match=r"(?s)exit status 3.*no such thing"):
        run([sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)"])


def test_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandFailedError, match=r"apt-get install -y .* docker\.io"):
        run(["docker", "version"])


def test_late_command_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; "
    script += "signal.pause()']).wait()"
    mark = {processes.CLUSTER_VARIABLE: f"late-{os.getpid()}"}
    with pytest.raises(CommandFailedError, match="did not end within 1 s"):
        run_logged([sys.executable, "-c", script], tmp_path / "log", timeout=1, env=mark)
    left = processes.with_variable(*next(iter(mark.items())))
    assert processes.wait_gone(left, within=5)


# -- records -------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def intent(name: str = "dsc-a") -> records.Intent:
    return records.Intent(name, "r1", "kind", {"private": True}, Identity.own(), records.now())


@pytest.mark.usefixtures("state")
def test_intent_survives_its_way_through_the_disk() -> None:
    intent().write()
    assert list(records.all_intents()) == [intent()]
    intent().keep()
    assert [i.kept for i in records.all_intents()] == [True]


@pytest.mark.usefixtures("state")
def test_record_cut_short_by_a_crash_is_removed() -> None:
    folder = records.clusters_dir() / "dsc-cut"
    folder.mkdir(parents=True)
    (folder / records.INTENT_FILE).write_text('{"name": "dsc-c')
    assert list(records.all_intents()) == []
    records.tidy()
    assert not folder.exists()


def test_node_names_fit_into_a_host_name() -> None:
    name = records.run_cluster_name(records.new_run_id(), "p" * 40)
    assert len(f"{name}-control-plane2") <= 63


# -- OCI runtime ---------------------------------------------------------------------------------

STATUS = "Name:\tx\nCapBnd:\t000001fffeffffff\n"  # of a machine without CAP_SYS_RESOURCE


def bundle(folder: Path) -> dict[str, Any]:
    return {
        "process": {
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
                "effective": ["CAP_SYS_RESOURCE"],
                "ambient": None,
            },
            "oomScoreAdj": -500,
            "args": ["/sbin/init"],
        },
        "hostname": "node",
    }


def test_bounding_set_is_read_by_name() -> None:
    bounding = oci_runtime.bounding_set(STATUS)
    assert oci_runtime.known_to_kernel("40") - bounding == {"CAP_SYS_RESOURCE"}


@pytest.mark.parametrize(
    "arguments", [["create", "--bundle", "{}", "x"], ["--root", "/r", "run", "-b={}", "x"]]
)
def test_container_asks_only_for_capabilities_that_exist(
    tmp_path: Path, arguments: list[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(bundle(tmp_path)))
    given = [argument.format(tmp_path) for argument in arguments]
    oci_runtime.rewrite(given, oci_runtime.bounding_set(STATUS))
    changed = json.loads(config.read_text())
    assert changed["process"]["capabilities"] == {
        "bounding": ["CAP_CHOWN"],
        "effective": [],
        "ambient": [],
    }
    assert "oomScoreAdj" not in changed["process"]
    assert (changed["process"]["args"], changed["hostname"]) == (["/sbin/init"], "node")


def test_exec_asks_only_for_capabilities_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    path.write_text(json.dumps(bundle(tmp_path)["process"]))
    oci_runtime.rewrite(["exec", "--process", str(path), "x"], oci_runtime.bounding_set(STATUS))
    assert json.loads(path.read_text())["capabilities"]["bounding"] == ["CAP_CHOWN"]


def test_nothing_is_taken_where_nothing_is_missing() -> None:
    process = bundle(Path())["process"]
    complete = oci_runtime.known_to_kernel("40")
    kept = oci_runtime.possible(process, complete)
    assert kept["oomScoreAdj"] == -500
    assert kept["capabilities"]["bounding"] == process["capabilities"]["bounding"]


# -- networks ------------------------------------------------------------------------------------


def with_used(monkeypatch: pytest.MonkeyPatch, *used: str) -> None:
    monkeypatch.setattr(networks, "_used", lambda _: [ip_network(u) for u in used])


def test_free_node_networks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_profile("native")
    with_used(monkeypatch, "172.17.0.0/16", "fd99::/64")
    assert networks.with_free_node_networks(spec, ("docker",), print) == spec


def test_used_node_networks_are_exchanged_per_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """10.244.0.0/24 would be next but one; it belongs to the pods."""
    spec = load_profile("native")
    with_used(monkeypatch, "10.243.0.0/17", "10.243.128.0/17")
    said: list[str] = []
    with pytest.raises(ClusterError, match=r"--set node_cidrs.ipv4="):
        networks.with_free_node_networks(spec, ("docker",), said.append)
    with_used(monkeypatch, "10.243.0.0/23")
    changed = networks.with_free_node_networks(spec, ("docker",), said.append)
    assert str(changed.node_cidrs.ipv4) == "10.243.2.0/24"
    assert changed.node_cidrs.ipv6 == spec.node_cidrs.ipv6
    assert said == ["nodes get 10.243.2.0/24: 10.243.0.0/24 overlaps 10.243.0.0/23, "
                    "which is in use"]  # fmt: skip


# -- outside -------------------------------------------------------------------------------------


def node(name: str, *addresses: str) -> NodeView:
    listed = [{"type": "InternalIP", "address": a} for a in addresses]
    return NodeView.from_api({"metadata": {"name": name}, "status": {"addresses": listed}})


def affinity(block: str, owner: str, **more: Any) -> dict[str, Any]:
    return {"spec": {"cidr": block, "node": owner, "state": "confirmed", **more}}


def test_pods_are_reached_through_the_owner_of_their_block() -> None:
    routes = outside.pod_routes(
        [
            affinity("fd00:10:244::40/122", "b"),
            affinity("10.244.1.0/26", "a"),
            affinity("10.244.9.0/26", "gone"),
            affinity("10.244.8.0/26", "a", deleted="true"),
            affinity("fd00:10:244::80/122", "v4-only"),
        ],
        [node("a", "10.243.0.3", "fd00:10:243::3"), node("b", "10.243.0.4", "fd00:10:243::4"),
         node("v4-only", "10.243.0.5")],
    )  # fmt: skip
    assert [(str(r.block), r.via) for r in routes] == [
        ("10.244.1.0/26", ip_address("10.243.0.3")),
        ("fd00:10:244::40/122", ip_address("fd00:10:243::4")),
    ]


def test_outside_has_fixed_and_documentation_addresses() -> None:
    spec = load_profile("native")
    assert outside.internet_addresses(spec) == DualAddresses.parse(
        ["192.0.2.10", "198.51.100.10", "2001:db8::a"]
    )
    assert outside.node_network_addresses(spec) == DualAddresses.parse(
        ["10.243.0.250", "fd00:10:243::fa"]
    )


def test_small_node_networks_have_room_for_the_outside_host() -> None:
    spec = load_profile("native", {"node_cidrs.ipv4": "10.243.0.0/28"})
    assert str(outside.node_network_addresses(spec).all[0]) == "10.243.0.14"


# -- preflight and engine ------------------------------------------------------------------------


def test_all_missing_tools_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreflightError) as caught:
        preflight.check(preflight.Plan(engine=True, build=True))
    text = str(caught.value)
    for tool in ("dockerd", "iptables", "ip", "debootstrap", "go"):
        assert f"{tool} was not found" in text or f"{tool}, " in text, text
    assert text.count("apt-get install") >= 4


def test_an_engine_of_the_user_needs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    plan = preflight.Plan(engine=False, build=False)
    assert [n for n in preflight.needs(plan) if "root" in n.what or "dockerd" in n.what] == []


def test_too_little_memory_and_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda: 1 << 30)
    monkeypatch.setattr(preflight, "DISK_TO_RUN_GIB", 1 << 30)
    text = "\n".join(map(str, preflight.needs(preflight.Plan(engine=False, build=False))))
    assert "1.0 GiB of memory are available" in text
    assert "set XDG_CACHE_HOME to a directory on a larger disk" in text


def test_inotify_instances_in_use_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max_user_instances").write_text("128")
    (tmp_path / "max_user_watches").write_text("1000000")
    monkeypatch.setattr(preflight, "_inotify_used", lambda _: 61)
    assert list(preflight._inotify(3, tmp_path)) == []
    monkeypatch.setattr(preflight, "_inotify_used", lambda _: 122)
    (need,) = preflight._inotify(3, tmp_path)
    assert str(need) == (
        "6 inotify instances are left, a cluster of 3 nodes needs 64: remove another cluster "
        "(`python -m clusters list`), or as root `sysctl -w fs.inotify.max_user_instances=1024`"
    )


def test_inotify_instances_are_counted() -> None:
    own = Path(f"/proc/{os.getpid()}")
    before = preflight._inotify_of(own)
    descriptor = ctypes.CDLL(None).inotify_init()
    if descriptor < 0:
        pytest.skip("inotify instances of this user ran out")
    try:
        assert preflight._inotify_of(own) == before + 1
    finally:
        os.close(descriptor)


def test_preflight_needs_no_installed_package() -> None:
    argv = ["python3", "-I", "-S", "-c",
            "import sys; sys.path.insert(0, '.'); import clusters.preflight as p; "
            "print(*p.debian_packages())"]  # fmt: skip
    done = run([sys.executable, *argv[1:]])
    assert "docker.io" in done.stdout.split()


def test_broken_docker_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    with pytest.raises(EngineError, match=r"DOCKER_HOST=unix:///nowhere.sock does not answer"):
        engine.find_engine()


def test_private_engine_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EngineError, match="only root can start a private one"):
        dockerd.check_prerequisites()


def test_private_engine_is_one_per_cache(tmp_path: Path) -> None:
    first, second = engine.Places.of_cache(tmp_path / "a"), engine.Places.of_cache(tmp_path / "b")
    assert first == engine.Places.of_cache(tmp_path / "a")
    assert first.name != second.name
    assert len(str(first.socket)) < 107


# -- existing clusters ---------------------------------------------------------------------------


def test_missing_kubeconfig_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UnusableError, match=r"There is no kubeconfig .*none"):
        kubeconfig_path(None)


def test_unreachable_cluster_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "clusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: x, user: {}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n"
    )
    with pytest.raises(UnusableError, match=r"No cluster answers at .*config: .*kubectl"):
        answering(path, None)
    with pytest.raises(UnusableError, match=r"No cluster answers at context nope"):
        answering(path, "nope")
