"""OCI archives: what containerd reads is there, digests are true, equal inputs give equal bytes."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clusters.images.oci import Image, Item, Layer, write_archive, write_layer


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF")
    return path


@pytest.fixture
def base(tmp_path: Path) -> Layer:
    return write_layer([Item("etc/base", text="base", mode=0o644)], tmp_path / "base.tar")


@pytest.fixture
def top(tmp_path: Path, program: Path) -> Layer:
    items = [Item("usr/bin/a", program), Item("usr/bin/b", hardlink="usr/bin/a")]
    return write_layer(items, tmp_path / "top.tar")


class Archive:
    """An OCI archive, read as containerd reads it."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as archive:
            self.names = [member.name for member in archive]
            self.contents: dict[str, bytes] = {}
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    self.contents[member.name] = file.read()

    def json(self, name: str) -> Any:
        return json.loads(self.contents[name])

    def blob(self, descriptor: dict[str, Any]) -> Any:
        content = self.contents[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert len(content) == descriptor["size"]
        return json.loads(content)


def test_layer_has_parents_before_their_files(top: Layer) -> None:
    with tarfile.open(top.path) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == ["usr", "usr/bin", "usr/bin/a", "usr/bin/b"]
    assert members["usr"].isdir()
    assert members["usr/bin/a"].mode == 0o755
    assert members["usr/bin/b"].islnk()
    assert members["usr/bin/b"].linkname == "usr/bin/a"


def test_layer_belongs_to_root_unless_said_otherwise(tmp_path: Path) -> None:
    layer = write_layer([Item("etc/x", text="x"), Item("status", uid=999)], tmp_path / "x.tar")
    with tarfile.open(layer.path) as archive:
        owners = {member.name: (member.uid, member.gid) for member in archive}
    assert owners == {"etc": (0, 0), "etc/x": (0, 0), "status": (999, 999)}


def test_same_items_give_the_same_layer(tmp_path: Path, program: Path) -> None:
    items = [Item("bin/a", program), Item("etc/link", symlink="../bin/a")]
    digests = {write_layer(items, tmp_path / name).digest for name in ("one.tar", "two.tar")}
    assert len(digests) == 1


def test_layer_digest_is_of_its_file(base: Layer) -> None:
    assert base.digest == f"sha256:{hashlib.sha256(base.path.read_bytes()).hexdigest()}"
    assert base.size == base.path.stat().st_size


def test_archive_names_its_images_and_their_layers(tmp_path: Path, base: Layer, top: Layer) -> None:
    image = Image(
        "example.org/one:v1", (base, top), entrypoint=("/usr/bin/a",), env={"A": "b"}, user="999"
    )
    digests = write_archive([image], "amd64", tmp_path / "images.tar")
    archive = Archive(tmp_path / "images.tar")
    assert archive.json("oci-layout") == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = archive.json("index.json")["manifests"]
    assert descriptor["annotations"]["io.containerd.image.name"] == image.name
    assert descriptor["digest"] == digests[image.name]
    manifest = archive.blob(descriptor)
    assert [each["digest"] for each in manifest["layers"]] == [base.digest, top.digest]
    config = archive.blob(manifest["config"])
    assert config["rootfs"]["diff_ids"] == [base.digest, top.digest]
    assert config["config"]["Entrypoint"] == ["/usr/bin/a"]
    assert config["config"]["User"] == "999"
    assert "A=b" in config["config"]["Env"]
    assert any(each.startswith("PATH=/usr/local/sbin:") for each in config["config"]["Env"])


def test_blobs_are_named_by_their_digests(tmp_path: Path, base: Layer, top: Layer) -> None:
    write_archive([Image("a:1", (base, top))], "amd64", tmp_path / "images.tar")
    blobs = {
        name: content
        for name, content in Archive(tmp_path / "images.tar").contents.items()
        if name.startswith("blobs/")
    }
    assert len(blobs) == 4
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def test_shared_layer_is_stored_once(tmp_path: Path, base: Layer, top: Layer) -> None:
    images = [Image("a:1", (base,)), Image("b:1", (base, top)), Image("c:1", (base, top))]
    write_archive(images, "amd64", tmp_path / "images.tar")
    names = Archive(tmp_path / "images.tar").names
    assert names.count(f"blobs/{base.digest.replace(':', '/')}") == 1
    assert len(names) == len(set(names))


def test_images_of_equal_layers_are_different_images(tmp_path: Path, base: Layer) -> None:
    digests = write_archive(
        [Image("a:1", (base,)), Image("b:1", (base,))], "amd64", tmp_path / "images.tar"
    )
    assert digests["a:1"] != digests["b:1"]
