"""Loading the node image into an engine: once, with its settings, errors explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusters.images.api import ImageSet
from clusters.images.docker import load_into_docker
from clusters.images.errors import ImageBuildError

ENGINE = """\
#!/bin/sh
printf '%s\\n' "$*" >> "{log}"
case "$1 $2" in
    "image inspect") exit {present} ;;
    import*) test {broken} = 0 || {{ echo 'no space left on device' >&2; exit 1; }}; echo sha256:imported ;;
    create*) echo container ;;
esac
"""  # noqa: E501


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return ImageSet(
        key="k", node_image="dsc-node:k", node_rootfs=tmp_path / "rootfs.tar",
        node_changes=("ENV container=docker",), agent_image="a", outside_image="dsc-node:k",
        kind_binary=tmp_path, kubectl_binary=None, calico_manifests={}, manifest=tmp_path,
    )  # fmt: skip


def engine(folder: Path, *, present: bool = False, broken: bool = False) -> list[str]:
    script = folder / "docker"
    script.write_text(
        ENGINE.format(log=folder / "log", present=int(not present), broken=int(broken))
    )
    script.chmod(0o755)
    return [str(script)]


def calls(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_image_that_is_there_is_not_loaded_again(images: ImageSet, tmp_path: Path) -> None:
    load_into_docker(images, engine(tmp_path, present=True))
    assert len(calls(tmp_path)) == 1


def test_image_gets_its_name_last(images: ImageSet, tmp_path: Path) -> None:
    load_into_docker(images, engine(tmp_path))
    assert calls(tmp_path)[1:] == [
        f"import --change ENV container=docker {images.node_rootfs}",
        "create --stop-signal SIGRTMIN+3 sha256:imported",
        "commit container dsc-node:k",
        "rm container",
    ]


def test_refused_image_is_explained(images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match=r"info.*3 GiB") as caught:
        load_into_docker(images, engine(tmp_path, broken=True))
    assert "no space left on device" in str(caught.value)
