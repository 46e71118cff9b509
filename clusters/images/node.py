"""Assembles the node's root file system: what kind's own base image recipe does, as file work.

Source: kind's images/base/Dockerfile and pkg/build/nodeimage; the files themselves come from
the kind module. Docker is not needed: services are enabled and masked by their links.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusters.images.cache import remove_tree
from clusters.images.debian import CREATE
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children
from clusters.images.unpack import SHARED_SNAPSHOTS

IMPORT_CHANGES: tuple[str, ...] = (
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
    "ENV container=docker",
    # systemd 257 asks for this on a host with cgroup v1; elsewhere it has no effect.
    "ENV SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
# systemd re-executes itself on SIGTERM and shuts down on this one.
STOP_SIGNAL = "SIGRTMIN+3"
KUBERNETES_PROGRAMS = ("kubeadm", "kubelet", "kubectl")
CONTAINERD_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
CNI_PLUGINS = ("host-local", "loopback", "ptp", "portmap")
ENABLED_SERVICES = ("kubelet", "containerd", "undo-mount-hacks")
# Units that a container must not start; the same as kind's recipe removes.
REMOVED_UNITS = (
    "usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "usr/lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "usr/lib/systemd/system/local-fs.target.wants/*",
    "usr/lib/systemd/system/sockets.target.wants/*udev*",
    "usr/lib/systemd/system/sockets.target.wants/*initctl*",
    "usr/lib/systemd/system/basic.target.wants/*",
)
# kind applies both to each new cluster and refuses empty ones. Storage is not part of what is
# tested; the network is Calico's, whose manifest the cluster provider applies.
DEFAULT_STORAGE = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
"""
DEFAULT_CNI = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: no-default-cni
  namespace: kube-system
data:
  reason: this node image has no network of its own; set disableDefaultCNI and apply Calico
"""


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What the node is made of: built Go components and the pinned names it has to know."""

    components: Mapping[str, Path]
    kubernetes: str
    """Name of the Kubernetes component."""
    version: str
    pause_image: str


def install(children: Children, parts: NodeParts, root: Path, log: Path) -> None:
    """Puts everything but the images into the Debian root file system at `root`."""
    _programs(parts, root)
    _kind_files(parts.components["kind"] / "files/images/base/files", root)
    _services(root)
    _write(root / "kind/version", parts.version)
    _write(root / "kind/manifests/default-storage.yaml", DEFAULT_STORAGE)
    _write(root / "kind/manifests/default-cni.yaml", DEFAULT_CNI)
    (root / "etc/kubernetes/manifests").mkdir(parents=True, exist_ok=True)
    configuration = root / "etc/containerd/config.toml"
    _write(configuration, containerd_config(configuration.read_text(), parts.pause_image))
    ctr = parts.components["containerd"] / "bin/ctr"
    specification = json.loads(children.output([str(ctr), "oci", "spec"], log))
    _write(root / "etc/containerd/cri-base.json", json.dumps(cri_base(specification), indent=1))


def _programs(parts: NodeParts, root: Path) -> None:
    kubernetes = parts.components[parts.kubernetes] / "bin/kubernetes"
    _install(kubernetes, root / "usr/bin" / KUBERNETES_PROGRAMS[0])
    for name in KUBERNETES_PROGRAMS[1:]:
        os.link(root / "usr/bin" / KUBERNETES_PROGRAMS[0], root / "usr/bin" / name)
    for name in CONTAINERD_PROGRAMS:
        _install(parts.components["containerd"] / "bin" / name, root / "usr/local/bin" / name)
    for name in CNI_PLUGINS:
        _install(parts.components["cni"] / "bin" / name, root / "opt/cni/bin" / name)


def _kind_files(source: Path, root: Path) -> None:
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        name = path.relative_to(source)
        executable = name.parent in (Path("usr/local/bin"), Path("kind/bin"))
        _install(path, root / name, 0o755 if executable else 0o644)


def _services(root: Path) -> None:
    for pattern in REMOVED_UNITS:
        for path in root.glob(pattern):
            path.unlink()
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for name in ENABLED_SERVICES:
        (wants / f"{name}.service").symlink_to(f"/etc/systemd/system/{name}.service")
    # It would register programs with the kernel that all containers of the host share.
    (root / "etc/systemd/system/systemd-binfmt.service").symlink_to("/dev/null")
    # Kernel messages are the host's, and would be confusing in a node's journal.
    _write(root / "etc/systemd/journald.conf.d/kind.conf", "[Journal]\nReadKMsg=no\n")
    init = root / "usr/sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/usr/lib/systemd/systemd")


def containerd_config(kind_config: str, pause_image: str) -> str:
    """kind's containerd configuration, with our pause image and for hosts that restrict us.

    Without CAP_SYS_RESOURCE a container cannot lower its oom_score_adj below its parent's, and
    containerd fails to start each pod unless it is told to accept that.
    """
    lines = []
    for line in kind_config.splitlines():
        key = line.split("=")[0].strip()
        indent = line[: len(line) - len(line.lstrip())]
        if key == "sandbox_image":
            line = f'{indent}sandbox_image = "{pause_image}"'
        elif key == "restrict_oom_score_adj":
            line = f"{indent}restrict_oom_score_adj = true"
        lines.append(line)
    text = "\n".join(lines) + "\n"
    if pause_image not in text or "restrict_oom_score_adj = true" not in text:
        raise ImageBuildError(
            "kind's containerd configuration no longer has sandbox_image and "
            "restrict_oom_score_adj. Adapt clusters/images/node.py to this kind release."
        )
    return text


def cri_base(specification: dict[str, object]) -> dict[str, object]:
    """The runtime specification that containers of a node start from, as kind sets it.

    Its hook hides the host's product name; limits are the node's own.
    """
    process = specification.get("process")
    if isinstance(process, dict):
        process.pop("rlimits", None)
    hooks = {"createContainer": [{"path": "/kind/bin/mount-product-files.sh"}]}
    return {**specification, "hooks": hooks}


def share_equal_files(root: Path) -> int:
    """Makes programs and libraries that images and the node both have one file; bytes saved.

    Only below usr/: there nothing is ever written in place. (On a node made of this file system
    without an overlay, a write to a shared file would change the images too.)
    """
    snapshots = root / SHARED_SNAPSHOTS
    known = {
        _identity(path): path
        for snapshot in sorted(snapshots.iterdir())
        for path in _shareable_files(snapshot / "fs/usr")
    }
    saved = 0
    done: set[int] = set()
    for path in _shareable_files(root / "usr"):
        original = known.get(_identity(path))
        if original is not None:
            status = path.stat()
            saved += 0 if status.st_ino in done else status.st_size
            done.add(status.st_ino)
            path.unlink()
            os.link(original, path)
    return saved


def _shareable_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size and not os.listxattr(path):
            yield path


def _identity(path: Path) -> tuple[int, int, int, str]:
    status = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return status.st_mode, status.st_uid, status.st_gid, digest


def pack(children: Children, root: Path, target: Path, log: Path) -> None:
    """Writes the root file system as one tar, then removes it."""
    children.run([*CREATE, f"--file={target}", f"--directory={root}", "."], log)
    remove_tree(root)


def tools_layer(children: Children, root: Path, excluded: Path, target: Path, log: Path) -> None:
    """Writes the layer that images share: the Debian root without what only the node needs."""
    arguments: Sequence[str] = [
        *CREATE, "--anchored", "--no-wildcards", f"--exclude-from={excluded}",
        "--exclude=./var/lib/dpkg", f"--file={target}", f"--directory={root}", ".",
    ]  # fmt: skip
    children.run(arguments, log)


def _install(source: Path, target: Path, mode: int = 0o755) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
