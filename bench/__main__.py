"""``python -m bench [agents|flows|packets|cluster|guest|services]``: beside the budgets."""

from __future__ import annotations

import argparse

ALL = ("agents", "flows", "packets", "cluster", "guest")
KEPT = "services"  # measured on a cluster that is there


def main() -> None:
    """Run the named benchmarks; by default all that need no cluster beforehand."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*ALL, KEPT, []], default=[])
    parser.add_argument(
        "--runs", type=int, default=3, help="runs of `cluster` and `guest` (default 3)"
    )
    parser.add_argument("--cluster", default="dev", help="kept cluster of `services` (default dev)")
    given = parser.parse_args()
    which = given.which or ALL
    if "agents" in which:
        from bench import agents

        agents.main()
    if "flows" in which:
        from bench import flows

        flows.main()
    if "packets" in which:
        from bench import packets

        packets.main()
    if "cluster" in which:
        from bench import cluster

        cluster.main(given.runs)
    if "guest" in which:
        from bench import guest

        guest.main(given.runs)
    if KEPT in which:
        from bench import services

        services.main(given.cluster)


if __name__ == "__main__":
    main()
