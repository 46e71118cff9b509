"""`python -m clusters.images build|list|prune`, the same as `python -m clusters images ...`."""

from __future__ import annotations

import argparse
import sys

from clusters.images.cli import add_actions, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m clusters.images", description=__doc__)
    add_actions(parser)
    sys.exit(run(parser.parse_args()))
