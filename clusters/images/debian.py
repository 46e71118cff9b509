"""The Debian root file system: one debootstrap, two packages' files, cleaned, as one tar."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from clusters.images.cache import content_key, remove_tree
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children
from clusters.images.versions import Debian, ExtractedPackage

KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"
# Not part of a node: documentation, caches, and what debootstrap copied from this machine.
CLEANED = (
    "etc/apt/sources.list",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
)
EMPTY_DIRECTORIES = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log")
TAR = ("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner")
# Extended attributes need the PAX format; without times and pids the same files give the same tar.
CREATE = (
    *TAR,
    "--sort=name",
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    "--create",
)
MERGED = ("bin", "sbin", "lib", "lib64")  # links into usr/ in every suite since bookworm


def root_key(debian: Debian) -> str:
    """Key of the root file system: its packages and this recipe, not the day's mirror state."""
    return content_key(debian.model_dump(mode="json"), [Path(__file__)])


def build_root(children: Children, debian: Debian, target: Path, log: Path) -> None:
    """Makes target/root.tar, target/extracted/<files>, node-only.txt and packages.json.

    Raises:
        ImageBuildError: debootstrap is missing or this process is not root.
        StepFailedError: a command failed.
    """
    _check_tools()
    root = target / "root"
    mirror = apt_mirror()
    # In namespaces of its own, so that its mounts and daemons end with it however it ends.
    children.run(
        [
            "unshare", "--mount", "--pid", "--fork", "--kill-child",
            "debootstrap", "--variant=minbase", f"--include={','.join(debian.packages)}",
            debian.suite, str(root), *([mirror] if mirror else []),
        ],
        log,
    )  # fmt: skip
    for package in debian.extracted:
        _extract(children, root, package, target, log)
    (target / "packages.json").write_text(json.dumps(_package_versions(children, root, log)))
    excluded = node_only_files(root, debian.node_only)
    (target / "node-only.txt").write_text("".join(f"./{name}\n" for name in excluded))
    clean(root)
    children.run(
        [
            *CREATE, "--one-file-system", "--exclude=./dev/*",
            f"--file={target / 'root.tar'}", f"--directory={root}", ".",
        ],
        log,
    )  # fmt: skip
    remove_tree(root)


def _check_tools() -> None:
    if shutil.which("debootstrap") is None:
        raise ImageBuildError(
            "debootstrap was not found; it makes the node's root file system. Install it: "
            "apt-get install -y debootstrap"
        )
    if os.geteuid() != 0:
        raise ImageBuildError(
            "The image build sets owners and mounts file systems, so it has to run as root. "
            "Run it with: sudo -E python -m clusters images build"
        )


def apt_mirror() -> str | None:
    """The Debian mirror that this machine's apt uses; None: not a Debian host, no preference."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(SITE)|$(ORIGIN)|$(LABEL)"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    sites = (line.split("|") for line in listed.splitlines())
    return next((site for site, *archive in sites if archive == ["Debian", "Debian"]), None)


def _extract(
    children: Children, root: Path, package: ExtractedPackage, target: Path, log: Path
) -> None:
    """Downloads a package by the host's apt (its proxy settings apply), takes files out of it."""
    state = target / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    mirror = (root / "etc/apt/sources.list").read_text().split()[1]
    (state / "sources.list").write_text(
        f"deb [signed-by={root / KEYRING}] {mirror} {package.suite} main\n"
    )
    apt = [
        "apt-get",
        *("-o", f"Dir::Etc::SourceList={state / 'sources.list'}"),
        *("-o", "Dir::Etc::SourceParts=-"),
        *("-o", f"Dir::State={state / 'state'}"),
        *("-o", f"Dir::State::Status={state / 'status'}"),
        *("-o", f"Dir::Cache={state / 'cache'}"),
        *("-o", "APT::Sandbox::User=root"),
    ]
    children.run([*apt, "update"], log)
    children.run([*apt, "download", package.package], log, cwd=state)
    (archive,) = state.glob(f"{package.package}_*.deb")
    contents = state / package.package
    children.run(["dpkg-deb", "--extract", str(archive), str(contents)], log)
    for name in package.files:
        copy = target / "extracted" / Path(name).name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(contents / name, copy)
        copy.chmod(0o755)
    (target / "extracted" / f"{package.package}.version").write_text(archive.name.split("_")[1])
    remove_tree(state)


def _package_versions(children: Children, root: Path, log: Path) -> dict[str, str]:
    query = ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", "-f"]
    listed = children.output([*query, "${Package} ${Version}\\n"], log)
    return dict(line.split(" ", 1) for line in listed.splitlines())


def node_only_files(root: Path, packages: Iterable[str]) -> list[str]:
    """Files of the named packages, relative to the root, with usr-merged directory names."""
    found: set[str] = set()
    for package in packages:
        lists = sorted((root / "var/lib/dpkg/info").glob(f"{package}*.list"))
        named = [path for path in lists if path.stem.partition(":")[0] == package]
        if not named:
            raise ImageBuildError(
                f"debian.node_only names {package}, which is not installed. "
                "Take it out of versions.yaml."
            )
        for line in named[0].read_text().splitlines():
            name = line.removeprefix("/")
            merged = f"usr/{name}" if name.partition("/")[0] in MERGED else name
            path = root / merged
            if path.is_symlink() or path.is_file():
                found.add(merged)
    return sorted(found)


def clean(root: Path) -> None:
    """Removes what no node needs, and what describes the machine that ran debootstrap."""
    for name in CLEANED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in EMPTY_DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/machine-id").touch()  # empty: systemd makes one at first boot
