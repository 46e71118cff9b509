"""Kernel and disk of guest nodes: configuration, plan, what is added to a node's files."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from clusters.images import build, guest_disk, guest_kernel
from clusters.images.api import ImageRequest
from clusters.images.cache import Cache
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children
from clusters.images.versions import GuestKernel, pinned

OPTIONS = guest_kernel.read_options(guest_kernel.CONFIG.read_text())
GUEST = ImageRequest(guest=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "images")


def done(cache: Cache, step: build.Step) -> None:
    cache.entry(step.name, step.key).mkdir(parents=True)


@pytest.mark.parametrize(
    "option",
    [
        "IP_VS", "IP_VS_IPV6", "IP_VS_NFCT", "IP_VS_RR", "DUMMY", "IP_SET_HASH_IPPORTIP",  # ipvs
        "NF_TABLES_IPV6", "NFT_NUMGEN", "IP6_NF_NAT", "NETFILTER_XT_SET",  # other proxies, Felix
        "IP_SCTP", "NET_IPIP", "WIREGUARD", "VXLAN", "NET_SCH_NETEM",  # what hosts often lack
        "KEYS", "CGROUP_BPF", "OVERLAY_FS",  # kubelet, containerd
    ],
)  # fmt: skip
def test_configuration_has_what_a_node_needs(option: str) -> None:
    assert OPTIONS[f"CONFIG_{option}"] == "y"


def test_every_line_of_the_configuration_is_an_option_or_a_comment() -> None:
    lines = [line for line in guest_kernel.CONFIG.read_text().splitlines() if line.strip()]
    assert len(OPTIONS) == sum(not line.startswith("#") for line in lines)


def test_dropped_options_are_named() -> None:
    wanted = {"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_C": "n", "CONFIG_D": "n", "CONFIG_N": "2"}
    configuration = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=y\nCONFIG_N=2\n"
    with pytest.raises(ImageBuildError, match="does not take CONFIG_B, CONFIG_D from"):
        guest_kernel.check_options(wanted, configuration)
    guest_kernel.check_options({"CONFIG_A": "y", "CONFIG_C": "n"}, configuration)


def test_newest_source_is_by_number_and_no_flavour() -> None:
    names = ["linux-source", "linux-source-6.12", "linux-source-7.2", "linux-source-7.10",
             "linux-source-7.11-rt"]  # fmt: skip
    assert guest_kernel.newest(names) == "linux-source-7.10"
    with pytest.raises(ImageBuildError, match="no kernel source"):
        guest_kernel.newest(["linux-source"])


def test_missing_tools_are_named_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageBuildError, match=r"gcc, make, flex.* bison .*xz-utils.*without-guest"):
        guest_kernel.check_tools()


def test_kernel_key_follows_source_and_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = guest_kernel.kernel_key(pinned().guest.kernel)
    assert guest_kernel.kernel_key(GuestKernel(package="linux-source-9", suite="sid")) != before
    changed = tmp_path / guest_kernel.CONFIG.name
    changed.write_text(guest_kernel.CONFIG.read_text() + "CONFIG_NEW=y\n")
    monkeypatch.setattr(guest_kernel, "CONFIG", changed)
    assert guest_kernel.kernel_key(pinned().guest.kernel) != before


def test_node_image_is_the_same_with_and_without_guests(cache: Cache) -> None:
    plain, guest = (build.plan(each, cache, pinned()) for each in (ImageRequest(), GUEST))
    assert plain.key == guest.key
    extra = {step.name for step in guest.steps} - {step.name for step in plain.steps}
    assert extra == {"guest-kernel", "guest-disk"}
    assert [step.name for step in guest.steps[-2:]] == ["node", "guest-disk"]


def test_only_the_guests_parts_are_made_where_the_node_image_is_there(cache: Cache) -> None:
    plan = build.plan(GUEST, cache, pinned())
    assert plan.missing(cache) == list(plan.steps)
    done(cache, plan.image)
    assert [step.name for step in plan.missing(cache)] == ["guest-kernel", "guest-disk"]
    assert not plan.complete(cache)
    for step in plan.results:
        cache.entry(step.name, step.key).mkdir(exist_ok=True)
    assert plan.complete(cache)
    assert plan.missing(cache) == []


def test_files_of_a_guest_replace_those_of_a_container(tmp_path: Path) -> None:
    hooked = {"ociVersion": "1", "hooks": {"createContainer": []}}
    (tmp_path / "etc/containerd").mkdir(parents=True)
    (tmp_path / guest_disk.OCI_SPEC).write_text(json.dumps(hooked))
    (tmp_path / guest_disk.CONTAINERD).write_text("version = 2\n[plugins]\n")
    (tmp_path / "kind/bin").mkdir(parents=True)
    (tmp_path / "kind/bin/create-kubelet-cgroup-v2.sh").write_text("#!/bin/bash\n")
    guest_disk.adapt(tmp_path)
    specification = json.loads((tmp_path / guest_disk.OCI_SPEC).read_text())
    assert specification == {"ociVersion": "1", "process": {"env": ["GOMAXPROCS=1"]}}
    containerd = tomllib.loads((tmp_path / guest_disk.CONTAINERD).read_text())
    assert containerd == {"imports": ["/etc/containerd/guest.toml"], "version": 2, "plugins": {}}
    assert tomllib.loads((tmp_path / "etc/containerd/guest.toml").read_text())["version"] == 3
    for program in ("dsc/init", "dsc/join", "kind/bin/create-kubelet-cgroup-v2.sh"):
        assert (tmp_path / program).stat().st_mode & 0o777 == 0o755
        assert (tmp_path / program).read_text().startswith("#!/bin/sh\n")
    unit = tmp_path / "etc/systemd/system/guest-join.service"
    assert unit.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("script", ["dsc/init", "dsc/join", "kind/bin/create-kubelet-cgroup-v2.sh"])
def test_scripts_are_valid_shell(script: str, tmp_path: Path) -> None:
    Children().run(["sh", "-n", str(guest_disk.FILES / script)], tmp_path / "log")


@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 (e2fsprogs) is missing")
def test_disk_holds_the_nodes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "etc/containerd").mkdir(parents=True)
    (root / guest_disk.OCI_SPEC).write_text("{}")
    (root / guest_disk.CONTAINERD).write_text("version = 2\n")
    (root / "etc/marker").write_text("of the node\n")
    log, target = tmp_path / "log", tmp_path / "target"
    target.mkdir()
    children = Children()
    children.run(["tar", "-C", str(root), "-cf", str(tmp_path / "rootfs.tar"), "."], log)
    monkeypatch.setattr(guest_disk, "DISK_GIB", 1)
    guest_disk.build_disk(children, tmp_path / "rootfs.tar", target, log)
    assert [path.name for path in target.iterdir()] == [guest_disk.DISK]
    disk = target / guest_disk.DISK
    assert disk.stat().st_blocks * 512 < 200 << 20  # holes are not written

    def read(path: str) -> str:
        return children.output(["debugfs", "-R", f"cat {path}", str(disk)], log)

    assert read("/etc/marker") == "of the node"
    assert read("/dsc/init").startswith("#!/bin/sh")
