"""The versions file of the repository is whole, and errors in one are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.images.errors import ImageBuildError
from clusters.images.golang import module_pins
from clusters.images.versions import VERSIONS_FILE, Component, load_versions, pinned

COMPONENTS = sorted(pinned().components)


def components_from_upstream() -> list[str]:
    return [name for name in COMPONENTS if pinned().components[name].module]


@pytest.fixture
def data() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(VERSIONS_FILE.read_text())
    return loaded


def written(data: dict[str, Any], folder: Path) -> Path:
    path = folder / "versions.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("name", components_from_upstream())
def test_upstream_sources_are_pinned_by_hash(name: str) -> None:
    pins = module_pins(pinned().components[name])
    assert pins["module_hash"].startswith("h1:")


@pytest.mark.parametrize("name", components_from_upstream())
def test_programs_are_named_in_go_mod(name: str) -> None:
    component = pinned().components[name]
    go_mod = (component.path / "go.mod").read_text()
    for package in component.programs.values():
        if package.startswith("./"):
            assert list((component.path / package).glob("*.go")), "a program of ours lies beside it"
        elif package != ".":
            assert f"\t{package}\n" in go_mod or f"tool {package}\n" in go_mod


@pytest.mark.parametrize("name", components_from_upstream())
def test_module_version_is_the_stated_one(name: str) -> None:
    component = pinned().components[name]
    version = module_pins(component)["module_version"]
    # Calico's tags are no Go versions: its releases are pinned by commit.
    if not version.startswith("v0.0.0-"):
        assert version == component.version


@pytest.mark.parametrize("name", COMPONENTS)
def test_replaced_folders_exist(name: str) -> None:
    folder = pinned().components[name].path
    for line in (folder / "go.mod").read_text().splitlines():
        _, arrow, target = line.partition(" => ")
        if arrow and target.startswith("."):
            assert (folder / target / "go.mod").is_file()


def test_image_tags_tell_the_true_versions() -> None:
    versions = pinned()
    for name, entry in versions.kubernetes.versions.items():
        assert entry.images["kube-proxy"].endswith(f":{name}")
        assert entry.images["coredns"].endswith(f":{versions.components['coredns'].version}")
        etcd = versions.components["etcd"].version.removeprefix("v")
        assert f":{etcd}-" in entry.images["etcd"]


def test_unknown_release_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ImageBuildError, match=r"Calico v3\.99\.0 .* v3\.31\.0.*versions\.yaml"):
        pinned().calico_version("v3.99.0")


def test_wrong_field_is_named(data: dict[str, Any], tmp_path: Path) -> None:
    data["components"]["kind"]["version"] = "latest"
    with pytest.raises(ImageBuildError, match=r"components\.kind\.version"):
        load_versions(written(data, tmp_path))


def test_unknown_field_is_named(data: dict[str, Any], tmp_path: Path) -> None:
    data["debian"]["mirror"] = "x"
    with pytest.raises(ImageBuildError, match=r"debian\.mirror"):
        load_versions(written(data, tmp_path))


def test_component_that_is_not_defined_is_named(data: dict[str, Any], tmp_path: Path) -> None:
    del data["components"]["calico-v3.31.0"]
    with pytest.raises(ImageBuildError, match=r"calico-v3\.31\.0 is not in components"):
        load_versions(written(data, tmp_path))


def test_go_sum_without_the_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "go.sum").write_text("example.org/other v1.0.0 h1:x=\n")
    component = Component(
        version="v1.0.0", folder=str(tmp_path)[1:], module="example.org/this", programs={}
    )
    object.__setattr__(component, "folder", str(tmp_path))
    with pytest.raises(ImageBuildError, match="go mod tidy"):
        module_pins(component)
