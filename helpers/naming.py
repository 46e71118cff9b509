"""Names that the product gives to things it makes, in one place.

Everything made in a cluster carries ``MANAGED_BY``; everything made on the machine starts with
``PREFIX``, so that leftovers can be found and told apart from what others made.
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "dsc"
PRODUCT = "dualstack-conformance"
MANAGED_BY = {"app.kubernetes.io/managed-by": PRODUCT}
FIELD_MANAGER = PRODUCT
AGENT_NAMESPACE = f"{PREFIX}-agents"
FAULT_JOURNAL = "fault.json"  # in the folder of a cluster while a fault is planted in it


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/dualstack-conformance``: safe to delete at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PRODUCT


def state_dir() -> Path:
    """``$XDG_STATE_HOME/dualstack-conformance``: records of clusters that exist now."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / PRODUCT
