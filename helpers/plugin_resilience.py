"""Fixture ``setting``: what disturbances and the flows around them need, and which roll it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from clusters.spec import Version
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.kube import Kube
from helpers.resilience import bad_upgrades, rolls
from helpers.resilience.traffic import Setting
from helpers.workloads import Workloads

if TYPE_CHECKING:
    from clusters.api import Cluster

ROLLING: Final = ("RES-001", "RES-002")  # what is decided by a roll, whoever makes it


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dualstack-resilience", "dual-stack conformance: disturbances")
    group.addoption(
        "--calico-roll",
        metavar="VERSION",
        type=_version,
        help="what rolls in RES-001 and RES-002 is an upgrade to this release of Calico, by "
        "upstream's manifest (default: calico-node restarts as it is)",
    )
    group.addoption(
        "--bad-upgrade",
        metavar="NAME",
        choices=sorted(bad_upgrades.KNOWN),
        help="spoil the upgrade, to see that it is noticed: "
        + "; ".join(f"{name}: {bad.title}" for name, bad in sorted(bad_upgrades.KNOWN.items())),
    )
    group.addoption(
        "--watched-roll",
        metavar="SECONDS",
        type=float,
        help="RES-001 and RES-002 do nothing themselves: they watch for so long while others "
        "change the cluster",
    )
    group.addoption(
        "--watched-until",
        metavar="FILE",
        type=Path,
        help="watching ends early when this file is there",
    )


def _version(text: str) -> Version:
    try:
        return Version.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, e.g. v3.31.0") from None


@pytest.fixture
def setting(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    kube: Kube,
    facts: Facts,
    agents: AgentPool,
    workloads: Workloads,
) -> Setting:
    """The fixtures of a disturbance together; the outside takes part where there is one."""
    outside = request.getfixturevalue("outside") if cluster.outside is not None else None
    roll = _roll(request.config, cluster, agents)
    return Setting(cluster.state, cluster.spec, kube, facts, agents, workloads, outside, roll)


def _roll(config: pytest.Config, cluster: Cluster, agents: AgentPool) -> rolls.Roll:
    seconds = config.getoption("--watched-roll")
    if seconds is not None:
        return rolls.watched(seconds, config.getoption("--watched-until"))
    version = config.getoption("--calico-roll")
    if version is None:
        return rolls.restart()
    bad = bad_upgrades.KNOWN.get(config.getoption("--bad-upgrade"))
    return rolls.release(cluster, version, agents, bad)


def watched(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether a test that disturbs everyone only looks on in this run."""
    name = getattr(item, "originalname", item.name)
    return config.getoption("--watched-roll", default=None) is not None and any(
        name.startswith(f"test_{r.lower().replace('-', '_')}_") for r in ROLLING
    )
