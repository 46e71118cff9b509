"""Unpacks an OCI archive into a containerd directory that a node can start with.

A containerd of our own runs for this, with a private socket and state; it names everything
relative to its root directory, so that directory can be moved into the node's file system.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusters.images.errors import StepFailedError
from clusters.images.process import Children

NAMESPACE = "k8s.io"  # where kubelet's images are
MANAGED = "io.cri-containerd.image=managed"  # what the CRI plugin lists
CONTAINERD_ROOT = "var/lib/containerd"
SNAPSHOTS = f"{CONTAINERD_ROOT}/io.containerd.snapshotter.v1.overlayfs/snapshots"
SHARED_SNAPSHOTS = "kind/snapshots"
READY_SECONDS = 60.0
# The path of a socket may have 107 characters; where that is too short, /tmp is used.
LONGEST_FOLDER = 107 - len("/dsc-containerd-12345678/containerd.sock.ttrpc")
PLUGINS_NOT_NEEDED = (
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.nri.v1.nri",
    "io.containerd.podsandbox.controller.v1.podsandbox",
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the built containerd and its client are."""

    containerd: Path
    ctr: Path


def unpack(
    children: Children,
    programs: Programs,
    archive: Path,
    names: Sequence[str],
    root: Path,
    log: Path,
) -> None:
    """Imports the archive's images into the containerd directory of a node's file system.

    The layers' blobs are dropped: a node never exports an image.

    Raises:
        StepFailedError: containerd did not become ready, or an import failed.
    """
    store = root / CONTAINERD_ROOT
    with _containerd(children, programs.containerd, store, archive.parent, log) as address:
        ctr = [str(programs.ctr), "--address", address, "--namespace", NAMESPACE]
        children.run(
            [*ctr, "images", "import", "--local", "--snapshotter", "overlayfs",
             "--discard-unpacked-layers", str(archive)],
            log,
        )  # fmt: skip
        for name in names:
            children.run([*ctr, "images", "label", name, MANAGED], log)
        children.run([*ctr, "content", "prune", "references"], log)
    share_snapshots(root)


def share_snapshots(root: Path) -> None:
    """Moves the unpacked layers out of /var, which kind copies into a volume for each node.

    containerd finds them through links and only reads them. Nodes then share one copy on disk
    and in memory, and start 4 s earlier each.
    """
    shared = root / SHARED_SNAPSHOTS
    shared.mkdir(parents=True)
    for snapshot in sorted((root / SNAPSHOTS).iterdir()):
        target = shared / snapshot.name
        snapshot.rename(target)
        snapshot.symlink_to(f"/{SHARED_SNAPSHOTS}/{snapshot.name}")


@contextlib.contextmanager
def _containerd(
    children: Children, program: Path, root: Path, work: Path, log: Path
) -> Iterator[str]:
    """Runs containerd and yields its address when it says (sd_notify) that it is ready."""
    folder = work if len(str(work)) <= LONGEST_FOLDER else None
    with (
        tempfile.TemporaryDirectory(prefix="dsc-containerd-", dir=folder) as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications,
    ):
        private = Path(name)
        disabled = ", ".join(f'"{plugin}"' for plugin in PLUGINS_NOT_NEEDED)
        (private / "config.toml").write_text(f"version = 3\ndisabled_plugins = [{disabled}]\n")
        address = str(private / "containerd.sock")
        arguments = [
            # Layers are mounted while they are unpacked: in a namespace that ends with containerd.
            "unshare", "--mount", str(program), "--config", str(private / "config.toml"),
            "--root", str(root), "--state", str(private / "state"), "--address", address,
        ]  # fmt: skip
        notifications.bind(str(private / "notify.sock"))
        notifications.settimeout(READY_SECONDS)
        environment = {"NOTIFY_SOCKET": str(private / "notify.sock")}
        with children.started(arguments, log, env=environment):
            try:
                while b"READY=1" not in notifications.recv(4096):
                    pass
            except TimeoutError as error:
                raise StepFailedError(
                    f"containerd was not ready after {READY_SECONDS:.0f} s. Its log says why: {log}"
                ) from error
            yield address
