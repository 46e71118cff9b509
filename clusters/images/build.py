"""The plan of an image build and its execution: which steps, in which order, from which inputs.

Go components and the Debian root are independent of each other and are made side by side (the
first needs the processor, the second the network); the node image needs all of them. Nodes with a
kernel of their own need two more steps: the kernel, and a disk made of the node image.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clusters.commands import Progress
from clusters.images import assemble, debian, golang, guest_disk, guest_kernel, node
from clusters.images.api import GuestFiles, ImageRequest, ImageSet, read_image_set
from clusters.images.cache import KEY_LENGTH, Cache, cache_root, content_key
from clusters.images.errors import CancelledError, ImageBuildError
from clusters.images.process import Children
from clusters.images.progress import Clock
from clusters.images.versions import Component, Versions, pinned

HERE = Path(__file__).resolve().parent
NODE_RECIPE = ("assemble.py", "components.py", "node.py", "oci.py", "unpack.py")
SHARED_COMPONENTS = ("cni", "containerd", "coredns", "etcd", "kind", "pause")
MIB = 1 << 20
# Measured on a build from nothing; Go keeps sources and compiled packages in caches of its own.
GO_CACHES_MIB = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One cached step: it fills the directory that it is given, or raises."""

    name: str
    what: str
    key: str
    mib: int
    make: Callable[[Children, Path, Path], None]
    """Called with the build's child processes, the directory to fill and the log file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of one request. `go` and `root` are independent, `image` needs them all.

    `kernel` needs nothing, `disk` needs `image`; both are None where no guest was asked for.
    """

    key: str
    go: tuple[Step, ...]
    root: Step
    image: Step
    kernel: Step | None = None
    disk: Step | None = None

    @property
    def compiled(self) -> tuple[Step, ...]:
        """Steps that need the processor and no other step."""
        return self.go if self.kernel is None else (*self.go, self.kernel)

    @property
    def results(self) -> tuple[Step, ...]:
        """Steps whose results are used; the others are made for these."""
        return tuple(step for step in (self.image, self.kernel, self.disk) if step is not None)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, each after those that it needs."""
        last = (self.image,) if self.disk is None else (self.image, self.disk)
        return (*self.compiled, self.root, *last)

    def complete(self, cache: Cache) -> bool:
        """Whether all results are in the cache."""
        return all(cache.entry(step.name, step.key).is_dir() for step in self.results)

    def missing(self, cache: Cache) -> list[Step]:
        """What has to be made: nothing for the node image where that is there already."""

        def absent(step: Step) -> bool:
            return not cache.entry(step.name, step.key).is_dir()

        wanted = self.steps if absent(self.image) else self.results
        return [step for step in wanted if absent(step)]


def go_components(request: ImageRequest, versions: Versions) -> dict[str, Component]:
    """The Go components of a request by name, the longest build first."""
    names = [
        versions.kubernetes_version(request.kubernetes).component,
        *(versions.calico_version(each).component for each in request.calico),
        *SHARED_COMPONENTS,
    ]
    return {name: versions.components[name] for name in names}


def plan(request: ImageRequest, cache: Cache, versions: Versions) -> Plan:
    """The steps of a request. Reads only small files of the repository.

    Raises:
        ImageBuildError: a requested version is not pinned.
    """
    selected = go_components(request, versions)
    go = {name: _go_step(name, component) for name, component in selected.items()}
    root = Step(
        name="debian",
        what=f"Debian {versions.debian.suite} root file system",
        key=debian.root_key(versions.debian),
        mib=1200,
        make=lambda children, target, log: debian.build_root(
            children, versions.debian, target, log
        ),
    )
    key = content_key(
        {
            "request": [request.kubernetes, request.calico],
            "kubernetes": versions.kubernetes_version(request.kubernetes).model_dump(mode="json"),
            "calico": [
                versions.calico_version(each).model_dump(mode="json") for each in request.calico
            ],
            "steps": [step.key for step in (*go.values(), root)],
        },
        [HERE / name for name in NODE_RECIPE],
    )
    inputs = {name: cache.entry(step.name, step.key) for name, step in go.items()}
    debian_entry = cache.entry(root.name, root.key)
    image = Step(
        name="node",
        what="component images and node root file system",
        key=key,
        mib=5000,
        make=assemble.Assembly(request, versions, inputs, debian_entry, key).make,
    )
    if not request.guest:
        return Plan(key=key, go=tuple(go.values()), root=root, image=image)
    kernel = Step(
        name="guest-kernel",
        what=f"compiling the guest kernel from {versions.guest.kernel.package}",
        key=guest_kernel.kernel_key(versions.guest.kernel),
        mib=3500,
        make=lambda children, target, log: guest_kernel.build_kernel(
            children, versions.guest.kernel, target, log
        ),
    )
    rootfs = cache.entry(image.name, image.key) / "rootfs.tar"
    disk = Step(
        name="guest-disk",
        what="disk of guest nodes",
        key=guest_disk.disk_key(key),
        mib=5000,
        make=lambda children, target, log: guest_disk.build_disk(children, rootfs, target, log),
    )
    return Plan(key=key, go=tuple(go.values()), root=root, image=image, kernel=kernel, disk=disk)


def _go_step(name: str, component: Component) -> Step:
    return Step(
        name=f"go-{name}",
        what=f"compiling {', '.join(component.programs)} {component.version}",
        key=golang.component_key(component),
        mib=400,
        make=lambda children, target, log: golang.build(children, component, target, log),
    )


def ensure_images(
    request: ImageRequest,
    progress: Progress,
    cache: Cache | None = None,
    versions: Versions | None = None,
) -> ImageSet:
    """Builds the images of a request that are not in the cache, and says where they are.

    Returns at once when all are there. A second builder waits for the first and then uses its
    result. An interrupted or failed build keeps its complete steps.

    Raises:
        ImageBuildError: the build cannot succeed on this machine; the message has the fix.
        StepFailedError: a step's command failed; the message has the end of its log.
    """
    cache = cache or Cache(cache_root())
    steps = plan(request, cache, versions or pinned())
    if not steps.complete(cache):
        with cache.locked(progress):
            if not steps.complete(cache):
                execute(steps, cache, progress)
    entry = cache.entry(steps.image.name, steps.image.key)
    return read_image_set(entry, node.IMPORT_CHANGES, guest_files(steps, cache))


def guest_files(steps: Plan, cache: Cache) -> GuestFiles | None:
    """What guest nodes are made of; None where the plan has none of it."""
    if steps.kernel is None or steps.disk is None:
        return None
    return GuestFiles(
        kernel=cache.entry(steps.kernel.name, steps.kernel.key) / guest_kernel.PROGRAM,
        disk=cache.entry(steps.disk.name, steps.disk.key) / guest_disk.DISK,
    )


def execute(steps: Plan, cache: Cache, progress: Progress) -> None:
    """Makes the missing steps of a plan. The caller holds the cache's lock."""
    missing = steps.missing(cache)
    check_space(cache, missing)
    cache.log("x").parent.mkdir(parents=True, exist_ok=True)
    children, clock = Children(), Clock(progress)
    clock.say(f"building node image {steps.key[:KEY_LENGTH]}: {len(missing)} steps, {cache.root}")

    def make(step: Step) -> None:
        if step not in missing:
            return
        log = cache.log(step.name)
        log.write_bytes(b"")
        with clock.step(step.name, step.what), cache.making(step.name, step.key) as target:
            begin = time.monotonic()
            step.make(children, target, log)
            (target / assemble.SECONDS_FILE).write_text(f"{time.monotonic() - begin:.1f}\n")

    _side_by_side(children, make, steps)
    make(steps.image)
    if steps.disk is not None:
        make(steps.disk)


def _side_by_side(children: Children, make: Callable[[Step], None], steps: Plan) -> None:
    """Makes the Debian root in a thread while this one compiles; the first error ends both."""
    failed = threading.Event()

    def make_root() -> None:
        try:
            make(steps.root)
        except BaseException:
            failed.set()
            children.cancel()
            raise

    with ThreadPoolExecutor(max_workers=1) as pool:
        root = pool.submit(make_root)
        try:
            for step in steps.compiled:
                make(step)
        except CancelledError:
            root.result()  # the cause: what failed in the other thread
            raise
        except BaseException:
            children.cancel()
            raise
        root.result()


def check_space(cache: Cache, missing: list[Step]) -> None:
    """Checks that the missing steps fit on the disk, before they run for minutes.

    Raises:
        ImageBuildError: they do not; the message says how much is needed.
    """
    existing = next(each for each in (cache.root, *cache.root.parents) if each.exists())
    need = sum(each.mib for each in missing)
    need += GO_CACHES_MIB if any(each.name.startswith("go-kubernetes") for each in missing) else 0
    free = shutil.disk_usage(existing).free // MIB
    if free < need:
        raise ImageBuildError(
            f"Building the images needs {need} MiB at {cache.root}, {free} MiB are free. Free "
            "some, or set XDG_CACHE_HOME to a directory on a larger disk."
        )
