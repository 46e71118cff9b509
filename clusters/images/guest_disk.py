"""The disk of guest nodes: the node's root file system as an ext4 image that all guests share.

Each guest writes into a copy-on-write file of its own (`ubd0=COW,BASE`), so the disk is made once
and never changes. What differs from a node in a container is in `guest-files/`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from clusters.images.cache import content_key, remove_tree
from clusters.images.debian import TAR
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children

FILES: Final = Path(__file__).with_name("guest-files")
DISK: Final = "disk.ext4"
DISK_GIB: Final = 12  # mostly holes; what guests write goes to their own files
OCI_SPEC: Final = "etc/containerd/cri-base.json"
CONTAINERD: Final = "etc/containerd/config.toml"
IMPORTS: Final = 'imports = ["/etc/containerd/guest.toml"]\n'
# Why: guest-files/etc/systemd/system/containerd.service.d/guest.conf
ONE_THREAD: Final = "GOMAXPROCS=1"


def disk_key(node_key: str) -> str:
    """Key of the disk: the node's root file system, what is added to it, and this recipe."""
    files = [path for path in FILES.rglob("*") if path.is_file()]
    return content_key({"node": node_key, "gib": DISK_GIB}, [Path(__file__), *files])


def build_disk(children: Children, rootfs: Path, target: Path, log: Path) -> None:
    """Makes target/disk.ext4 from the tar of the node's root file system.

    Raises:
        ImageBuildError: mkfs.ext4 is missing.
        StepFailedError: a command failed.
    """
    if shutil.which("mkfs.ext4") is None:
        raise ImageBuildError(
            "mkfs.ext4 was not found; it makes the disk of guest nodes. Install it: "
            "apt-get install -y e2fsprogs, or leave the guest node out (--without-guest)."
        )
    root = target / "root"
    root.mkdir()
    children.run(
        [*TAR, "--preserve-permissions", "--extract", f"--file={rootfs}", f"--directory={root}"],
        log,
    )
    adapt(root)
    disk = target / DISK
    with disk.open("wb") as file:
        file.truncate(DISK_GIB << 30)
    # No journal: a guest that is killed is thrown away with its disk. All inodes are written now,
    # so that no kernel thread writes them into every guest's own file later.
    children.run(
        ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0",
         "-E", "lazy_itable_init=0,root_owner=0:0", "-d", str(root), str(disk)],
        log,
    )  # fmt: skip
    remove_tree(root)


def adapt(root: Path) -> None:
    """Puts into a node's root file system what a machine of its own needs, and takes out a hook."""
    for path in sorted(each for each in FILES.rglob("*") if each.is_file()):
        copy = root / path.relative_to(FILES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(0o755 if path.read_text().startswith("#!") else 0o644)
    # kind's hook hides the host's product name from each container: five programs to start, and
    # a guest has no such name.
    specification = json.loads((root / OCI_SPEC).read_text())
    specification.pop("hooks", None)
    specification.setdefault("process", {}).setdefault("env", []).append(ONE_THREAD)
    (root / OCI_SPEC).write_text(json.dumps(specification, indent=1))
    # A key of the whole file: it must stand before the first table.
    configuration = (root / CONTAINERD).read_text()
    (root / CONTAINERD).write_text(IMPORTS + configuration)
