"""Cluster records survive the trip through a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusters.api import Cluster, Outside
from clusters.spec import load_profile
from helpers.model import DualAddresses


def outside() -> Outside:
    return Outside(
        container="dsc-1-outside",
        docker=("docker", "-H", "unix:///run/x.sock"),
        addresses=DualAddresses.parse(["10.243.0.9", "fd00:10:243::9"]),
        internet=DualAddresses.parse(["198.51.100.1", "2001:db8::1"]),
    )


@pytest.mark.parametrize("beyond", [outside(), None])
def test_cluster_round_trip(beyond: Outside | None) -> None:
    cluster = Cluster(
        name="dsc-1",
        kubeconfig=Path("/run/k"),
        context=None,
        spec=load_profile("ipv6-primary", {"nodes.workers.count": "3", "mtu": "1400"}),
        owned=True,
        agent_image="dsc/agent:1",
        agent_image_pull_policy="Never",
        outside=beyond,
        state=Path("/run/state"),
        engine={"DOCKER_HOST": "unix:///run/x.sock"},
    )
    assert Cluster.from_json(json.loads(json.dumps(cluster.to_json()))) == cluster


def test_record_of_another_schema_is_not_read() -> None:
    with pytest.raises(ValueError, match="schema 99"):
        Cluster.from_json({"schema": 99})
