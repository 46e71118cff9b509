"""The command line: what it prints, its exit status, and that SIGTERM ends a build cleanly."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import pytest

from clusters.images import cli
from clusters.images.cache import Cache, cache_root
from clusters.images.errors import ImageBuildError
from clusters.images.versions import pinned

KEY = "0123456789abcdef"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Cache(cache_root())


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    return cli.run(parser.parse_args(["images", *arguments]))


def entry(cache: Cache, step: str, key: str = KEY) -> Path:
    with cache.making(step, key) as folder:
        (folder / "file").write_text("x")
    return cache.entry(step, key)


def used_kind_entry(cache: Cache) -> Path:
    return next(
        path for path in cli.used_entries(cache, pinned()) if path.name.startswith("go-kind-")
    )


def test_list_tells_used_from_unused(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    used = used_kind_entry(cache)
    used.mkdir(parents=True)
    unused = entry(cache, "go-kind")
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    states = {line.split()[-1]: line.split()[-2] for line in lines[:-1]}
    assert states == {used.name: "used", unused.name: "unused"}
    assert str(cache.root) in lines[-1]


def test_list_of_an_empty_cache(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert capsys.readouterr().out.split() == ["0", "MiB", "in", str(cache.root)]


def test_prune_removes_what_the_pins_do_not_use(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    used = used_kind_entry(cache)
    used.mkdir(parents=True)
    unused = entry(cache, "go-kind")
    assert run("prune") == 0
    assert used.is_dir()
    assert not unused.exists()
    assert f"removed {unused.name}" in capsys.readouterr().out


def test_every_pinned_release_is_used(cache: Cache) -> None:
    names = {path.name.rpartition("-")[0] for path in cli.used_entries(cache, pinned())}
    assert {f"go-{name}" for name in pinned().components} <= names


def test_error_is_one_message_and_status_1(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", "--calico", "v0.0.1") == 1
    error = capsys.readouterr().err
    assert error.startswith("Calico v0.0.1 cannot be built")
    assert "Traceback" not in error


def test_sigterm_interrupts_a_build(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ImageBuildError("the signal was ignored")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "ensure_images", build)
    assert run("build") == cli.INTERRUPTED
    assert "complete steps are kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
