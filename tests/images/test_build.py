"""The plan and its execution: keys, resuming, errors, space, and what is returned when cached."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from clusters.images import build
from clusters.images.api import ImageRequest
from clusters.images.assemble import SECONDS_FILE
from clusters.images.cache import Cache, content_key
from clusters.images.errors import ImageBuildError, StepFailedError
from clusters.images.process import Children
from clusters.images.versions import pinned

Work = Callable[[Children, Path, Path], None]


def nothing(_children: Children, _target: Path, _log: Path) -> None:
    """A step that succeeds at once."""


@dataclass
class Recorder:
    """A plan of fake steps; remembers which ran."""

    ran: list[str] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)

    def step(self, name: str) -> build.Step:
        def make(children: Children, target: Path, log: Path) -> None:
            self.ran.append(name)
            self.work.get(name, nothing)(children, target, log)
            (target / "done").touch()
            if name == "node":
                record = {"key": "k" * 64, "agent_image": "agent:1", "calico": ["v3.31.0"]}
                (target / "manifest.json").write_text(json.dumps(record))

        return build.Step(name, f"making {name}", content_key({"step": name}), 1, make)

    def plan(self) -> build.Plan:
        names = ("go-one", "go-two")
        image = self.step("node")
        go = tuple(map(self.step, names))
        return build.Plan(image.key, go, self.step("debian"), image)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "images")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(build, "plan", lambda *_: recorder.plan())
    return recorder


def failure(children: Children, _target: Path, log: Path) -> None:
    children.run(["false"], log)


def pause(children: Children, _target: Path, log: Path) -> None:
    children.run(["sleep", "600"], log)


def key(request: ImageRequest, cache: Cache) -> str:
    return build.plan(request, cache, pinned()).key


def test_key_follows_the_requested_versions(cache: Cache) -> None:
    one = key(ImageRequest(calico=("v3.31.0",)), cache)
    two = key(ImageRequest(calico=("v3.30.1",)), cache)
    both = key(ImageRequest(calico=("v3.30.1", "v3.31.0")), cache)
    assert len({one, two, both}) == 3
    assert key(ImageRequest(calico=("v3.31.0", "v3.30.1", "v3.31.0")), cache) == both


def test_key_follows_the_pinned_versions(cache: Cache) -> None:
    request = ImageRequest()
    versions = pinned()
    etcd = versions.components["etcd"].model_copy(update={"version": "v3.6.9"})
    changed = versions.model_copy(update={"components": {**versions.components, "etcd": etcd}})
    before, after = (build.plan(request, cache, each) for each in (versions, changed))
    assert before.key != after.key
    differ = {a.name for a, b in zip(before.steps, after.steps, strict=True) if a.key != b.key}
    assert differ == {"go-etcd", "node"}


def test_other_calico_releases_are_not_built_unasked(cache: Cache) -> None:
    steps = build.plan(ImageRequest(calico=("v3.31.0",)), cache, pinned()).steps
    assert [step.name for step in steps if "calico" in step.name] == ["go-calico-v3.31.0"]


def test_unknown_release_is_refused_before_anything_is_built(cache: Cache) -> None:
    with pytest.raises(ImageBuildError, match=r"Kubernetes v1\.2\.3 cannot be built"):
        build.ensure_images(ImageRequest(kubernetes="v1.2.3"), print, cache)
    assert not cache.root.exists()


def test_all_steps_are_built_once(cache: Cache, recorder: Recorder) -> None:
    said: list[str] = []
    images = build.ensure_images(ImageRequest(), said.append, cache)
    assert sorted(recorder.ran) == ["debian", "go-one", "go-two", "node"]
    assert recorder.ran[-1] == "node"
    assert images.node_image == "dsc-node:" + "k" * 12
    assert images.outside_image == images.node_image
    assert images.agent_image == "agent:1"
    assert images.node_rootfs.parent == cache.entry("node", recorder.plan().key)
    assert any("go-one: done in" in line for line in said)
    build.ensure_images(ImageRequest(), said.append, cache)
    assert len(recorder.ran) == 4


def test_finished_images_are_returned_while_another_builds(
    cache: Cache, recorder: Recorder
) -> None:
    build.ensure_images(ImageRequest(), print, cache)
    returned = threading.Event()

    def ask() -> None:
        build.ensure_images(ImageRequest(), print, cache)
        returned.set()

    with cache.locked(print):
        thread = threading.Thread(target=ask)
        thread.start()
        assert returned.wait(5)
        thread.join()


def test_real_plan_is_computed_in_no_time(cache: Cache) -> None:
    begin = time.monotonic()
    build.plan(ImageRequest(), cache, pinned())
    assert time.monotonic() - begin < 1


def test_failed_build_resumes_after_its_finished_steps(cache: Cache, recorder: Recorder) -> None:
    recorder.work["go-two"] = failure
    with pytest.raises(StepFailedError) as caught:
        build.ensure_images(ImageRequest(), print, cache)
    assert str(cache.log("go-two")) in str(caught.value)
    assert cache.entry("go-one", recorder.plan().go[0].key).is_dir()
    recorder.work.clear()
    recorder.ran.clear()
    build.ensure_images(ImageRequest(), print, cache)
    assert "go-one" not in recorder.ran
    assert "go-two" in recorder.ran


def test_failure_while_compiling_ends_the_other_steps(cache: Cache, recorder: Recorder) -> None:
    recorder.work.update({"go-one": failure, "debian": pause})
    begin = time.monotonic()
    with pytest.raises(StepFailedError, match="`false` failed"):
        build.ensure_images(ImageRequest(), print, cache)
    assert time.monotonic() - begin < 60
    assert cache.entries() == []


def test_failure_of_the_root_ends_compiling_and_is_the_error_shown(
    cache: Cache, recorder: Recorder
) -> None:
    recorder.work.update({"go-one": pause, "debian": failure})
    with pytest.raises(StepFailedError, match="`false` failed"):
        build.ensure_images(ImageRequest(), print, cache)
    assert cache.entries() == []


def test_interrupt_ends_everything(cache: Cache, recorder: Recorder) -> None:
    def interrupt(_children: Children, _target: Path, _log: Path) -> None:
        raise KeyboardInterrupt

    recorder.work.update({"go-two": interrupt, "debian": pause})
    with pytest.raises(KeyboardInterrupt):
        build.ensure_images(ImageRequest(), print, cache)
    assert [each.path.name.rpartition("-")[0] for each in cache.entries()] == ["go-one"]


def test_second_builder_uses_the_result_of_the_first(cache: Cache, recorder: Recorder) -> None:
    waiting = threading.Event()

    def say(line: str) -> None:
        if "another image build is running" in line:
            waiting.set()

    recorder.work["node"] = lambda *_: None if waiting.wait(10) else pytest.fail("nobody waits")
    builders = [
        threading.Thread(target=build.ensure_images, args=(ImageRequest(), say, cache))
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(20)
    assert recorder.ran.count("node") == 1


def test_full_disk_is_found_before_building(
    cache: Cache, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 << 20))
    with pytest.raises(ImageBuildError, match=r"needs 4 MiB at .*, 2 MiB are free.*XDG_CACHE_HOME"):
        build.ensure_images(ImageRequest(), print, cache)
    assert recorder.ran == []


def test_times_of_the_steps_are_kept_with_their_results(cache: Cache, recorder: Recorder) -> None:
    build.ensure_images(ImageRequest(), print, cache)
    for step in recorder.plan().steps:
        assert float((cache.entry(step.name, step.key) / SECONDS_FILE).read_text()) < 60


def test_go_is_asked_for_by_name_when_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    step = build.plan(ImageRequest(), Cache(tmp_path), pinned()).go[0]
    with pytest.raises(ImageBuildError, match=r"Install Go 1\.26\.8 or later"):
        step.make(Children(), tmp_path, tmp_path / "log")
