"""`python -m clusters images build|list|prune`."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
from datetime import timedelta
from pathlib import Path

from clusters.images.api import ImageRequest
from clusters.images.build import ensure_images, plan
from clusters.images.cache import Cache, Entry, cache_root
from clusters.images.errors import ImageBuildError
from clusters.images.versions import Versions, pinned

INTERRUPTED = 130  # the shell's status for a program that Ctrl-C ended


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the `images` command to a command line; its arguments go to `run`."""
    parser = subparsers.add_parser(
        "images", help="build node images from Go modules and Debian packages"
    )
    add_actions(parser)


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Adds build, list and prune to a parser."""
    versions = pinned()
    actions = parser.add_subparsers(dest="images_action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build what is missing and say where it is")
    build.add_argument(
        "--kubernetes", default=versions.kubernetes.default, metavar="VERSION",
        help=f"one of {', '.join(versions.kubernetes.versions)} (default: %(default)s)",
    )  # fmt: skip
    build.add_argument(
        "--calico", action="append", metavar="VERSION",
        help=f"one of {', '.join(versions.calico.versions)}; may be given several times "
        f"(default: {versions.calico.default})",
    )  # fmt: skip
    build.add_argument(
        "--guest", action="store_true",
        help="also the kernel and the disk of nodes with a kernel of their own",
    )  # fmt: skip
    actions.add_parser("list", help="show what is in the cache, with size and age")
    actions.add_parser("prune", help="remove what the pinned versions do not use")


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action; returns the exit status: 0, 1 for an error, 130 if interrupted."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _ACTIONS[args.images_action](args)
    except ImageBuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; complete steps are kept, the next build goes on.", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _show(line: str) -> None:
    print(line, flush=True)


def _build(args: argparse.Namespace) -> int:
    calico = args.calico or [pinned().calico.default]
    images = ensure_images(ImageRequest(args.kubernetes, tuple(calico), args.guest), _show)
    _show(f"node image   {images.node_image}, from {images.node_rootfs}")
    _show(f"agent image  {images.agent_image}, inside the node image")
    _show(f"record       {images.manifest}")
    if images.guest:
        _show(f"guest kernel {images.guest.kernel}")
        _show(f"guest disk   {images.guest.disk}")
    return 0


def _list(_: argparse.Namespace) -> int:
    cache = Cache(cache_root())
    entries = cache.entries()
    used = used_entries(cache, pinned())
    for each in entries:
        state = "incomplete" if not each.complete else "used" if each.path in used else "unused"
        _show(f"{size(each.size):>8}  {age(each.age):>8}  {state:<10}  {each.path.name}")
    _show(f"{size(sum(each.size for each in entries)):>8}  in {cache.root}")
    return 0


def _prune(_: argparse.Namespace) -> int:
    cache = Cache(cache_root())
    with cache.locked(_show):
        removed = cache.prune(used_entries(cache, pinned()))
    for each in removed:
        _show(f"removed {each.path.name} ({size(each.size)})")
    _show(f"{size(_total(removed))} freed in {cache.root}")
    return 0


def _total(entries: list[Entry]) -> int:
    return sum(each.size for each in entries)


def used_entries(cache: Cache, versions: Versions) -> set[Path]:
    """The entries that some request for pinned versions would use."""
    releases = list(versions.calico.versions)
    selections = itertools.chain.from_iterable(
        itertools.combinations(releases, count) for count in range(1, len(releases) + 1)
    )
    requests = itertools.product(versions.kubernetes.versions, selections)
    return {
        cache.entry(step.name, step.key)
        for kubernetes, calico in requests
        for step in plan(ImageRequest(kubernetes, calico, guest=True), cache, versions).steps
    }


def size(count: int) -> str:
    """Bytes for people: MiB, or GiB from 1000 MiB on."""
    mib = count / (1 << 20)
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def age(span: timedelta) -> str:
    """A time span for people, in its largest unit."""
    seconds = int(span.total_seconds())
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


_ACTIONS = {"build": _build, "list": _list, "prune": _prune}
