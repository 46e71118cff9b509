"""``python -m bench [agents|flows|cluster|guest] [--runs N]``: this machine beside the budgets."""

from __future__ import annotations

import argparse


def main() -> None:
    """Run the named benchmarks, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "which", nargs="*", choices=["agents", "flows", "cluster", "guest", []], default=[]
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="runs of `cluster` and `guest` (default 3)"
    )
    given = parser.parse_args()
    which = given.which or ["agents", "flows", "cluster", "guest"]
    if "agents" in which:
        from bench import agents

        agents.main()
    if "flows" in which:
        from bench import flows

        flows.main()
    if "cluster" in which:
        from bench import cluster

        cluster.main(given.runs)
    if "guest" in which:
        from bench import guest

        guest.main(given.runs)


if __name__ == "__main__":
    main()
