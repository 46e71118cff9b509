"""The node's root file system: kind's files, services by their links, containerd's settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from clusters.images import debian, node, unpack
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children

PAUSE = "registry.k8s.io/pause:3.10.2"
KIND_CONFIG = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  # use fixed sandbox image
  sandbox_image = "registry.k8s.io/pause:3.10"
  restrict_oom_score_adj = false
"""
SPECIFICATION = {"process": {"rlimits": [{"type": "RLIMIT_NOFILE"}], "cwd": "/"}, "root": {}}


@pytest.fixture
def components(tmp_path: Path) -> dict[str, Path]:
    built = {name: tmp_path / name for name in ("kubernetes", "containerd", "cni", "kind")}
    for name, programs in (
        ("kubernetes", ("kubernetes",)),
        ("containerd", node.CONTAINERD_PROGRAMS),
        ("cni", node.CNI_PLUGINS),
    ):
        (built[name] / "bin").mkdir(parents=True)
        for program in programs:
            (built[name] / "bin" / program).write_text(program)
    ctr = built["containerd"] / "bin/ctr"
    ctr.write_text(f"#!{sys.executable}\nprint({json.dumps(SPECIFICATION)!r})\n")
    ctr.chmod(0o755)
    base = built["kind"] / "files/images/base/files"
    for name in (
        "usr/local/bin/entrypoint",
        "kind/bin/mount-product-files.sh",
        "etc/systemd/system/kubelet.service",
        "etc/containerd/config.toml",
    ):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(KIND_CONFIG)
    return built


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    for name in (
        "usr/sbin/iptables",
        "usr/bin/python3",
        "etc/systemd/system/multi-user.target.wants/ipvsadm.service",
        "etc/systemd/system/timers.target.wants/apt-daily.timer",
        "usr/lib/systemd/system/sockets.target.wants/systemd-udevd-kernel.socket",
        "usr/lib/systemd/system/sockets.target.wants/systemd-journald.socket",
    ):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


@pytest.fixture
def installed(components: dict[str, Path], root: Path, tmp_path: Path) -> Path:
    parts = node.NodeParts(components, "kubernetes", "v1.36.4", PAUSE)
    node.install(Children(), parts, root, tmp_path / "log")
    return root


def test_kubernetes_programs_are_one_file(installed: Path) -> None:
    inodes = {
        (installed / "usr/bin" / name).stat().st_ino for name in ("kubeadm", "kubelet", "kubectl")
    }
    assert len(inodes) == 1


def test_kind_finds_what_it_asks_a_node_image_for(installed: Path) -> None:
    assert (installed / "kind/version").read_text() == "v1.36.4"
    assert "kind: StorageClass" in (installed / "kind/manifests/default-storage.yaml").read_text()
    assert (installed / "kind/manifests/default-cni.yaml").read_text()
    assert (installed / "etc/kubernetes/manifests").is_dir()


def test_scripts_of_kind_are_executable_and_files_are_not(installed: Path) -> None:
    assert (installed / "usr/local/bin/entrypoint").stat().st_mode & 0o777 == 0o755
    assert (installed / "kind/bin/mount-product-files.sh").stat().st_mode & 0o777 == 0o755
    assert (installed / "etc/systemd/system/kubelet.service").stat().st_mode & 0o777 == 0o644


def test_only_the_services_of_a_node_are_enabled(installed: Path) -> None:
    wants = installed / "etc/systemd/system/multi-user.target.wants"
    expected = {f"{name}.service" for name in ("kubelet", "containerd", "undo-mount-hacks")}
    assert {path.name for path in wants.iterdir()} == expected
    assert not list((installed / "etc/systemd/system/timers.target.wants").iterdir())
    sockets = installed / "usr/lib/systemd/system/sockets.target.wants"
    assert [path.name for path in sockets.iterdir()] == ["systemd-journald.socket"]
    masked = installed / "etc/systemd/system/systemd-binfmt.service"
    assert str(masked.readlink()) == "/dev/null"


def test_init_is_systemd(installed: Path) -> None:
    assert str((installed / "usr/sbin/init").readlink()) == "/usr/lib/systemd/systemd"


def test_containerd_uses_our_pause_image_and_starts_pods_without_sys_resource() -> None:
    text = node.containerd_config(KIND_CONFIG, PAUSE)
    assert f'  sandbox_image = "{PAUSE}"\n' in text
    assert "  restrict_oom_score_adj = true\n" in text
    assert text.count("\n") == KIND_CONFIG.count("\n")


def test_configuration_without_these_settings_is_refused() -> None:
    with pytest.raises(ImageBuildError, match=r"node\.py"):
        node.containerd_config("version = 4\n", PAUSE)


def test_containers_get_the_hook_of_kind_and_no_limits(installed: Path) -> None:
    specification = json.loads((installed / "etc/containerd/cri-base.json").read_text())
    assert "rlimits" not in specification["process"]
    (hook,) = specification["hooks"]["createContainer"]
    assert hook["path"] == "/kind/bin/mount-product-files.sh"


def test_unpacked_layers_are_links_out_of_var(tmp_path: Path) -> None:
    snapshot = tmp_path / unpack.SNAPSHOTS / "7" / "fs" / "bin"
    snapshot.mkdir(parents=True)
    unpack.share_snapshots(tmp_path)
    link = tmp_path / unpack.SNAPSHOTS / "7"
    assert str(link.readlink()) == "/kind/snapshots/7"
    assert (tmp_path / "kind/snapshots/7/fs/bin").is_dir()


def test_equal_programs_of_node_and_images_are_one_file(tmp_path: Path) -> None:
    image, root = tmp_path / "kind/snapshots/1/fs", tmp_path
    for name in ("usr/bin/tool", "usr/bin/other", "etc/passwd"):
        for top in (image, root):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text("same")
    (root / "usr/bin/other").write_text("differs")
    (root / "usr/bin/kubelet").hardlink_to(root / "usr/bin/tool")
    assert node.share_equal_files(tmp_path) == len("same")
    assert (root / "usr/bin/tool").samefile(image / "usr/bin/tool")
    assert (root / "usr/bin/kubelet").samefile(image / "usr/bin/tool")
    assert not (root / "usr/bin/other").samefile(image / "usr/bin/other")
    assert not (root / "etc/passwd").samefile(image / "etc/passwd")


def test_programs_of_another_mode_stay_apart(tmp_path: Path) -> None:
    image, node_file = tmp_path / "kind/snapshots/1/fs/usr/x", tmp_path / "usr/x"
    for path, mode in ((image, 0o755), (node_file, 0o4755)):
        path.parent.mkdir(parents=True)
        path.write_text("same")
        path.chmod(mode)
    assert node.share_equal_files(tmp_path) == 0


def test_files_that_only_the_node_needs_are_named_with_merged_directories(tmp_path: Path) -> None:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "runc.list").write_text("/.\n/usr\n/usr/sbin\n/usr/sbin/runc\n")
    (info / "systemd:amd64.list").write_text("/lib/systemd/systemd\n/etc/systemd\n")
    (info / "systemd-sysv.list").write_text("/sbin/reboot\n")
    for name in ("usr/sbin/runc", "usr/lib/systemd/systemd", "usr/sbin/reboot"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = debian.node_only_files(tmp_path, ["runc", "systemd"])
    assert files == ["usr/lib/systemd/systemd", "usr/sbin/runc"]
    with pytest.raises(ImageBuildError, match="names perl"):
        debian.node_only_files(tmp_path, ["perl"])


def test_nothing_of_the_building_machine_stays(tmp_path: Path) -> None:
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("here")
    (tmp_path / "usr/share/doc/bash").mkdir(parents=True)
    (tmp_path / "var/log/apt").mkdir(parents=True)
    debian.clean(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"etc/machine-id"}
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert not list((tmp_path / "var/log").iterdir())


def test_mirror_is_the_one_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "http://packages.example.org|Example|Example",
        "http://security.example.org|Debian|Debian-Security",
        "http://mirror.example.org/debian|Debian|Debian",
    ]
    script = tmp_path / "apt-get"
    script.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert debian.apt_mirror() == "http://mirror.example.org/debian"
    script.write_text("#!/bin/sh\necho 'http://archive.example.org|Other|Other'\n")
    assert debian.apt_mirror() is None
