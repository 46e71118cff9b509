"""The cache: content keys, whole entries only, one builder at a time, listing and pruning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clusters.images.cache import Cache, cache_root, content_key

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"
HOLD_LOCK = """
import sys
from pathlib import Path
from clusters.images.cache import Cache
with Cache(Path(sys.argv[1])).locked(print):
    print("held", flush=True)
    sys.stdin.readline()
"""
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "images")


def complete(cache: Cache, step: str, key: str, content: str = "x") -> Path:
    with cache.making(step, key) as folder:
        (folder / "file").write_text(content)
    return cache.entry(step, key)


def test_root_follows_xdg_cache_home() -> None:
    root = cache_root({"XDG_CACHE_HOME": "/elsewhere"})
    assert root == Path("/elsewhere/dualstack-conformance/images")


def test_root_defaults_to_the_home_directory() -> None:
    assert cache_root({}) == Path.home() / ".cache/dualstack-conformance/images"


def test_key_changes_with_every_input(tmp_path: Path) -> None:
    file = tmp_path / "recipe"
    file.write_text("one")
    keys = [content_key({"version": "1"}, [file]), content_key({"version": "2"}, [file])]
    file.write_text("two")
    keys.append(content_key({"version": "1"}, [file]))
    keys.append(content_key({"version": "1"}, [file.rename(tmp_path / "renamed")]))
    keys.append(content_key({"version": "1"}))
    assert len(set(keys)) == len(keys)


def test_key_does_not_depend_on_order(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for each in files:
        each.write_text(each.name)
    forwards = content_key({"x": 1, "y": 2}, files)
    assert content_key({"y": 2, "x": 1}, reversed(files)) == forwards


def test_finished_step_is_a_whole_entry(cache: Cache) -> None:
    entry = complete(cache, "step", KEY)
    assert (entry / "file").read_text() == "x"
    assert [each.complete for each in cache.entries()] == [True]


def test_failed_step_leaves_nothing(cache: Cache) -> None:
    def half() -> None:
        with cache.making("step", KEY) as folder:
            (folder / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert cache.entries() == []


def test_leftovers_of_a_killed_step_do_not_get_into_the_next(cache: Cache) -> None:
    leftover = cache.root / f".{cache.entry('step', KEY).name}"
    leftover.mkdir(parents=True)
    (leftover / "half").touch()
    assert [each.complete for each in cache.entries()] == [False]
    entry = complete(cache, "step", KEY)
    assert [path.name for path in entry.iterdir()] == ["file"]


def test_prune_keeps_what_is_used_and_removes_the_rest(cache: Cache) -> None:
    used = complete(cache, "step", KEY)
    unused = complete(cache, "step", OTHER)
    (cache.root / ".step-interrupted").mkdir()
    removed = cache.prune([used])
    assert {each.path.name for each in removed} == {unused.name, ".step-interrupted"}
    assert [each.path for each in cache.entries()] == [used]


def test_sizes_are_of_the_disk(cache: Cache) -> None:
    complete(cache, "step", KEY, content="x" * 100_000)
    (entry,) = cache.entries()
    assert 100_000 <= entry.size < 200_000
    assert entry.age.total_seconds() < 60


def test_second_builder_waits_and_says_for_whom(cache: Cache) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(cache.root)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        said: list[str] = []

        def release(line: str) -> None:
            said.append(line)
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()

        with cache.locked(release):
            assert holder.wait(10) == 0
    assert said == [f"another image build is running (process {holder.pid}); waiting for it to end"]


def test_lock_of_a_killed_builder_is_free(cache: Cache) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(cache.root)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
        holder.wait()
    said: list[str] = []
    with cache.locked(said.append):
        assert said == []
