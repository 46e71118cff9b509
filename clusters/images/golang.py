"""Builds the Go components: programs from upstream modules, pinned by our go.mod and go.sum."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from clusters.images.cache import content_key
from clusters.images.errors import ImageBuildError
from clusters.images.process import Children
from clusters.images.versions import Component

# GOWORK and GOFLAGS of the person's own shell must not change what is built.
ENVIRONMENT: Mapping[str, str] = {
    "CGO_ENABLED": "0",
    "GO111MODULE": "on",
    "GOFLAGS": "-buildvcs=false",
    "GOWORK": "off",
}
SOURCES = ("go.mod", "go.sum")


def build_arguments(component: Component, package: str, target: Path) -> list[str]:
    """The command that builds one program; `target` is the file to write."""
    ldflags = " ".join(("-s", "-w", *component.ldflags))
    return [
        "go", "build", "-mod=readonly", "-trimpath", "-ldflags", ldflags,
        "-o", str(target), package,
    ]  # fmt: skip


def component_key(component: Component) -> str:
    """Key of a component's build: the pinned sources, our own files and the exact commands.

    The Go release is not part of it, so that a finished build serves a machine without Go.
    """
    commands = [
        build_arguments(component, package, Path(name))
        for name, package in component.programs.items()
    ]
    inputs = {
        "commands": commands,
        "environment": dict(ENVIRONMENT),
        "version": component.version,
        "files": component.files,
    }
    return content_key(inputs, (path for path in component.path.rglob("*") if path.is_file()))


def build(children: Children, component: Component, target: Path, log: Path) -> None:
    """Builds a component's programs to target/bin, copies its module's files to target/files.

    Raises:
        ImageBuildError: Go is missing or a source folder is not complete.
        StepFailedError: a command failed.
    """
    if shutil.which("go") is None:
        raise ImageBuildError(
            "Go was not found; images are built from Go modules. Install Go 1.26.8 or later and "
            "put its bin directory on PATH, or use images from registries."
        )
    for name in SOURCES if component.module else SOURCES[:1]:
        if not (component.path / name).is_file():
            raise ImageBuildError(
                f"{component.path / name} is missing. Restore it: git checkout -- {component.path}"
            )
    for name, package in component.programs.items():
        arguments = build_arguments(component, package, target / "bin" / name)
        children.run(arguments, log, cwd=component.path, env=ENVIRONMENT)
    if component.files:
        _copy_module_files(children, component, target / "files", log)
    version = children.output(["go", "env", "GOVERSION"], log, env=ENVIRONMENT)
    (target / "go.json").write_text(json.dumps({"go": version, **module_pins(component)}))


def module_pins(component: Component) -> dict[str, str]:
    """The upstream module with its version and hash, from go.sum; empty for our own code."""
    if component.module is None:
        return {}
    for line in (component.path / "go.sum").read_text().splitlines():
        name, version, digest = line.split()
        if name == component.module and not version.endswith("/go.mod"):
            return {"module": name, "module_version": version, "module_hash": digest}
    raise ImageBuildError(
        f"{component.path / 'go.sum'} does not pin {component.module}. Run `go mod tidy` there."
    )


def _copy_module_files(children: Children, component: Component, target: Path, log: Path) -> None:
    """Copies files out of the module cache, which the build may find emptied another time."""
    module = component.module or "."
    arguments = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]
    folder = Path(children.output(arguments, log, cwd=component.path, env=ENVIRONMENT))
    for name in component.files:
        source, copy = folder / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, copy)
    for path in (target, *target.rglob("*")):  # the module cache is read-only
        path.chmod(0o755 if path.is_dir() else 0o644)
