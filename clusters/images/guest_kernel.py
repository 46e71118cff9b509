"""The kernel of guest nodes: Debian's kernel source, compiled as a program (user-mode Linux).

A node that is a container shares the host's kernel. Where that has no IPVS, a node brings its own:
`make ARCH=um` gives a kernel that runs as an ordinary process. What it holds is
`guest-kernel.config`, on top of the kernel's own defaults for this architecture.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from clusters.commands import PACKAGES
from clusters.images.cache import content_key, remove_tree
from clusters.images.debian import KEYRING, apt_mirror
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children
from clusters.images.versions import GuestKernel
from clusters.preflight import GUEST_BUILD_TOOLS, there

CONFIG: Final = Path(__file__).with_name("guest-kernel.config")
PROGRAM: Final = "linux"
RECORD: Final = "kernel.json"
DEFAULT_MIRROR: Final = "http://deb.debian.org/debian"
TOOLS: Final = (*GUEST_BUILD_TOOLS, "apt-get", "dpkg-deb")
MAKE: Final = ("make", "ARCH=um", "--silent")
# So that the same source and configuration give the same kernel, on whichever machine.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "build",
    "KBUILD_BUILD_HOST": "build",
    "KCONFIG_NOTIMESTAMP": "1",
    "LC_ALL": "C",
}
_OPTION = re.compile(r"(CONFIG_\w+)=(.+)")


def kernel_key(kernel: GuestKernel) -> str:
    """Key of the kernel: source package, configuration and this recipe, not the day's mirror."""
    return content_key(kernel.model_dump(mode="json"), [CONFIG, Path(__file__)])


def build_kernel(children: Children, kernel: GuestKernel, target: Path, log: Path) -> None:
    """Makes target/linux, target/config (as configured in full) and target/kernel.json.

    Raises:
        ImageBuildError: a tool is missing, or the source does not know a configured option.
        StepFailedError: a command failed.
    """
    check_tools()
    work = target / "work"
    work.mkdir()
    source = work / "source"
    package = _unpack_source(children, kernel, work, source, log)
    options = read_options(CONFIG.read_text())
    children.run([*MAKE, "defconfig"], log, cwd=source, env=ENVIRONMENT)
    with (source / ".config").open("a") as configuration:  # of two equal options the last counts
        configuration.writelines(_written(options))
    children.run([*MAKE, "olddefconfig"], log, cwd=source, env=ENVIRONMENT)
    check_options(options, (source / ".config").read_text())
    jobs = f"-j{os.cpu_count() or 1}"
    children.run([*MAKE, jobs, PROGRAM], log, cwd=source, env=ENVIRONMENT)
    children.run(["strip", "-o", str(target / PROGRAM), str(source / PROGRAM)], log)
    (target / PROGRAM).chmod(0o755)
    shutil.copyfile(source / ".config", target / "config")
    release = children.output([*MAKE, "kernelrelease"], log, cwd=source, env=ENVIRONMENT)
    (target / RECORD).write_text(json.dumps({"package": package, "release": release}))
    remove_tree(work)


def check_tools() -> None:
    """Checks that everything is there before minutes of work.

    Raises:
        ImageBuildError: names all that is missing, and the command that installs it.
    """
    absent = [Path(tool).name for tool in TOOLS if not there(tool)]
    if absent:
        packages = " ".join(sorted({PACKAGES.get(tool, tool) for tool in absent}))
        raise ImageBuildError(
            f"The guest kernel cannot be compiled, {', '.join(absent)} not found. Install: "
            f"apt-get install -y --no-install-recommends {packages}, or leave the guest node out "
            "(--without-guest)."
        )


def _unpack_source(
    children: Children, kernel: GuestKernel, work: Path, source: Path, log: Path
) -> str:
    """Unpacks the kernel's source; returns the package it came from with its version."""
    apt = _apt(kernel, work)
    children.run([*apt, "update"], log)
    name = kernel.package
    if not children.output([*_cache(apt), "pkgnames", name], log).split():
        name = newest(children.output([*_cache(apt), "pkgnames", "linux-source-"], log).split())
    children.run([*apt, "download", name], log, cwd=work)
    (archive,) = work.glob(f"{name}_*.deb")
    children.run(["dpkg-deb", "--extract", str(archive), str(work / "package")], log)
    (tar,) = (work / "package/usr/src").glob("linux-source-*.tar.xz")
    source.mkdir()
    children.run(
        ["tar", "--extract", "--strip-components=1", f"--directory={source}", f"--file={tar}"], log
    )
    version = archive.name.split("_")[1]
    remove_tree(work / "package")
    archive.unlink()
    return f"{name} {version}"


def newest(packages: Iterable[str]) -> str:
    """The newest kernel source among package names: a rolling suite has dropped the pinned one.

    Raises:
        ImageBuildError: there is none.
    """
    found = [name for name in packages if re.fullmatch(r"linux-source-[\d.]+", name)]
    if not found:
        raise ImageBuildError(
            "The Debian mirror has no kernel source (linux-source-*): check the mirror that apt "
            "uses on this machine, or leave the guest node out (--without-guest)."
        )
    return max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def _apt(kernel: GuestKernel, work: Path) -> list[str]:
    """apt-get with a state of its own, for the source's suite; the host's proxies apply."""
    state = work / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    signed = f"[signed-by=/{KEYRING}] " if Path("/", KEYRING).exists() else ""
    mirror = apt_mirror() or DEFAULT_MIRROR
    (state / "sources.list").write_text(f"deb {signed}{mirror} {kernel.suite} main\n")
    settings = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::Status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    return [
        "apt-get",
        *(part for key, value in settings.items() for part in ("-o", f"{key}={value}")),
    ]


def _cache(apt: list[str]) -> list[str]:
    return ["apt-cache", *apt[1:]]


def read_options(text: str) -> dict[str, str]:
    """The options of a configuration fragment: ``y``, ``n`` or another value by name."""
    found = (_OPTION.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def _written(options: Mapping[str, str]) -> Iterator[str]:
    for name, value in options.items():
        yield f"# {name} is not set\n" if value == "n" else f"{name}={value}\n"


def check_options(wanted: Mapping[str, str], configuration: str) -> None:
    """Checks that nothing was dropped: the kernel's own rules undo what it cannot have, silently.

    Raises:
        ImageBuildError: names every option that is not as wanted.
    """
    present = read_options(configuration)
    lost = [name for name, value in wanted.items() if present.get(name, "n") != value]
    if lost:
        raise ImageBuildError(
            f"The kernel source does not take {', '.join(lost)} from {CONFIG.name}: correct their "
            "names, or add what they depend on."
        )
