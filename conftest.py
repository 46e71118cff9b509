"""Loads the suite's plugins. Fixtures and options live in them, one subject each."""

from __future__ import annotations

import pytest

# Messages of asserts inside helpers explain as much as those in tests.
pytest.register_assert_rewrite("helpers")

pytest_plugins = [
    "helpers.plugin_clusters",
    "helpers.plugin_agents",
    "helpers.plugin_outside",
    "helpers.plugin_workloads",
    "helpers.plugin_packets",
    "helpers.plugin_policy",
    "helpers.plugin_resilience",
    "helpers.plugin_results",
    "helpers.plugin_prove",
    "helpers.plugin_gate",
    "reports.collect",
    "reports.collect_proof",
    "reports.collect_gate",
]
