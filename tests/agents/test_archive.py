"""The agent as one file: what is in it, and that it depends on nothing but its sources."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.agents import archive
from helpers.agents.remote import runner


@pytest.fixture
def uncached() -> Iterator[None]:
    """``archive()`` reads the sources again."""
    archive.archive.cache_clear()
    yield
    archive.archive.cache_clear()


def members() -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(archive.archive())) as packed:
        return {name: packed.read(name).decode() for name in packed.namelist()}


def test_the_program_fits_in_a_config_map() -> None:
    assert len(archive.archive()) < 500_000  # etcd takes 1.5 MiB, a ConfigMap 1 MiB in base64


def test_the_program_needs_nothing_but_python_3_9() -> None:
    """It is shipped into images that may be anybody's."""
    for name, text in members().items():
        ast.parse(text, filename=name, feature_version=(3, 9))


@pytest.mark.usefixtures("uncached")
def test_bytes_follow_from_the_sources_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout elsewhere, at another time, with other modes, ships the same version."""
    here = archive.archive()
    elsewhere = tmp_path / "remote"
    shutil.copytree(archive._SOURCES, elsewhere)
    for source in elsewhere.glob("*.py"):
        source.chmod(0o600)
        os.utime(source, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(archive, "_SOURCES", elsewhere)
    archive.archive.cache_clear()
    assert archive.archive() == here
    with (elsewhere / "dns.py").open("a") as changed:
        changed.write("# other\n")
    archive.archive.cache_clear()
    assert archive.archive() != here


def test_nothing_is_shipped_but_the_agent() -> None:
    """The packages around it are empty there, whatever they import here."""
    packed = members()
    ours = {name for name in packed if name.startswith("helpers/agents/remote/")}
    around = {"helpers/__init__.py", "helpers/agents/__init__.py"}
    assert set(packed) - ours == {"__main__.py", *around}
    assert not any(packed[name] for name in around)


def test_every_operation_is_found_where_the_table_says() -> None:
    """Modules are imported by the operation's name: a function that is missing here is lost."""
    folder = Path(runner.__file__).parent
    found = {
        path.stem: tuple(sorted(name[3:] for name in functions(path) if name.startswith("op_")))
        for path in folder.glob("*.py")
    }
    assert {name: ops for name, ops in found.items() if ops} == runner.MODULES
    for op in runner.OPS:
        assert runner.operation(op).__name__ == f"op_{op}"


def functions(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_every_operation_loads_from_the_archive_alone(tmp_path: Path) -> None:
    """Far from this checkout and from every installed library."""
    path = str(archive.local_archive())
    program = (
        f"import sys; sys.path.insert(0, {path!r})\n"
        "from helpers.agents.remote import runner\n"
        "for op in runner.OPS: print(runner.operation(op).__code__.co_filename)\n"
    )
    argv = [sys.executable, "-I", "-S", "-c", program]
    listed = subprocess.run(argv, capture_output=True, cwd=tmp_path, text=True, check=True)
    files = listed.stdout.splitlines()
    assert len(files) == len(runner.OPS)
    assert all(file.startswith(path) for file in files)


def test_the_local_file_is_written_once_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = archive.local_archive()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == archive.digest()
    before = path.stat().st_mtime_ns
    assert archive.local_archive().stat().st_mtime_ns == before
    path.write_bytes(b"half")
    assert archive.local_archive().read_bytes() == archive.archive()
    assert [p.name for p in path.parent.iterdir()] == [archive.NAME]
