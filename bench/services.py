"""Requests per second through ClusterIPs: ``python -m bench services --cluster NAME``.

The cluster is one that ``python -m clusters up`` kept. From a pod on each node, one batch after
another of TCP and UDP requests (32 bytes, connect and echo) to the clusterIP of each family, with
the same backends for all: pods on every node with the host's kernel. Nodes with a kernel of their
own show beside them. Printed are the median and the range of several rounds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from clusters import engine, netns, registry
from clusters.records import Intent, cluster_name, clusters_dir
from helpers import facts as facts_module
from helpers.agents.client import Agent
from helpers.agents.pool import AgentPool
from helpers.facts import Facts
from helpers.kube import Kube
from helpers.model import FAMILIES, Protocol
from helpers.plan import Kind, plan, programmed
from helpers.probes import Outcome, Probe, run
from helpers.workloads import Workloads

ROUNDS: Final = 5
BATCH: Final = 400
PARALLEL: Final = 32
PORT: Final = 80


def main(name: str) -> None:
    """Measure on a kept cluster; print a line for each node, protocol and family.

    Raises:
        SystemExit: a request was not answered: such a rate measures nothing.
    """
    intent = Intent.read(clusters_dir() / cluster_name(name))
    namespace = intent.engine.get("namespace") if intent else None
    if namespace and engine.running():
        netns.enter(netns.handle(namespace))
    with tempfile.TemporaryDirectory() as state:
        cluster = registry.reuse(name, Path(state))
        kube = Kube(cluster.kubeconfig, cluster.context)
        pool = AgentPool.open(
            kube,
            cluster.state,
            image=cluster.agent_image,
            pull_policy=cluster.agent_image_pull_policy,
        )
        workloads = Workloads(kube, cluster, pool, "bench")
        try:
            _measure(pool, facts_module.load(cluster.state, kube, pool), workloads)
        finally:
            workloads.close()
            pool.close()


def _measure(pool: AgentPool, facts: Facts, workloads: Workloads) -> None:
    host = facts.kernel(next(node.name for node in facts.nodes if node.control_plane))
    native = [node.name for node in facts.nodes if node.kernel == host]
    workloads.pods(native)
    service = workloads.service()
    kinds = [Kind(p.value, p, PORT) for p in (Protocol.TCP, Protocol.UDP)]
    targets = {str(a): a for a in service.cluster_ips.all}
    clients = {f"pod on {node}": agent for node, agent in pool.peers.items()}
    programmed(plan(clients, targets, kinds), "the Service answers everywhere", within=30)
    print(f"{BATCH} requests, {PARALLEL} at a time, {len(native)} backends, {ROUNDS} rounds")
    for node in facts.nodes:
        about = f"{node.name} ({facts.proxy_mode(node.name)}, {node.kernel})"
        for protocol in (Protocol.TCP, Protocol.UDP):
            for family in FAMILIES:
                probe = Probe(protocol, service.cluster_ips.require(family), PORT, timeout=10)
                seen = [_rate(pool.peers[node.name], probe) for _ in range(ROUNDS)]
                median, low, high = statistics.median(seen), min(seen), max(seen)
                print(
                    f"{about:<52} {protocol} {family} {median:>8.0f}/s ({low:.0f} to {high:.0f})",
                    flush=True,
                )


def _rate(agent: Agent, probe: Probe) -> float:
    began = time.perf_counter()
    outcomes = {o.outcome for o in run(agent, [probe] * BATCH, parallel=PARALLEL)}
    spent = time.perf_counter() - began
    if outcomes != {Outcome.REACHED}:
        raise SystemExit(f"{agent.name}, {probe.label}: {outcomes}: nothing was measured")
    return BATCH / spent
