"""Life cycle of clusters: ``python -m clusters up|down|list|reap|preflight|images``.

Modules that need installed packages are imported where they are used: ``preflight`` must work
before anything is installed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Final

from clusters.errors import ClusterError
from clusters.interrupts import terminate_like_interrupt

OK: Final = 0
REFUSED: Final = 2
NO_CLUSTER: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors become one message and an exit code."""
    terminate_like_interrupt()
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(given)
    options = parser.parse_args(given)
    try:
        result: int = options.run(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_CLUSTER
    except ValueError as error:  # SpecError: a profile that cannot be used
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return result


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clusters", description="Clusters to test on.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    preflight = commands.add_parser("preflight", help="list what is missing on this machine")
    preflight.add_argument(
        "--packages", action="store_true", help="print missing Debian packages, one line, and end"
    )
    preflight.set_defaults(run=_preflight)

    up = commands.add_parser("up", help="make a cluster and keep it")
    up.add_argument("--name", help="how to call it (default: the profile's name)")
    if given[:1] == ["up"]:
        from clusters.options import add_profile_options

        add_profile_options(up.add_argument)
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="remove a cluster")
    down.add_argument("name", nargs="+", help="as `list` shows it")
    down.set_defaults(run=_down)

    listed = commands.add_parser("list", help="list clusters, runs and the private engine")
    listed.set_defaults(run=_list)

    reap = commands.add_parser("reap", help="remove what dead runs left")
    reap.set_defaults(run=_reap)

    if given[:1] in ([], ["images"], ["-h"], ["--help"]):
        _add_images(commands)
    return parser


def _add_images(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    try:
        from clusters.images import cli
    except ModuleNotFoundError:  # only `preflight` works before packages are installed
        return
    cli.add_parser(commands)
    commands.choices["images"].set_defaults(run=cli.run)


def _preflight(options: argparse.Namespace) -> int:
    from clusters import preflight

    if options.packages:
        print(" ".join(preflight.missing_packages()))
        return OK
    own_engine = not preflight.engine_answers()
    preflight.check(preflight.Plan(engine=own_engine, build=own_engine, guests=_guests()))
    print("ready: nothing is missing" + ("" if own_engine else "; your Docker engine is used"))
    return OK


def _guests() -> int:
    """Nodes of the default profile that need a kernel of their own on this machine."""
    try:
        from clusters import options
    except ModuleNotFoundError:  # before packages are installed nothing is known of profiles
        return 0
    return options.profile(None, (), None, None).guest_node_count


def _up(options: argparse.Namespace) -> int:
    from clusters import lifecycle

    return lifecycle.up(options, print)


def _down(options: argparse.Namespace) -> int:
    from clusters import registry

    missing = [name for name in options.name if not registry.down(name, print)]
    for name in missing:
        print(f"error: there is no cluster {name}: see `python -m clusters list`", file=sys.stderr)
    return REFUSED if missing else OK


def _list(options: argparse.Namespace) -> int:
    from clusters import lifecycle

    for line in lifecycle.listing():
        print(line)
    return OK


def _reap(options: argparse.Namespace) -> int:
    from clusters import registry

    removed = registry.reap(print)
    print("removed: " + ", ".join(removed) if removed else "nothing was left by dead runs")
    return OK


if __name__ == "__main__":
    sys.exit(main())
