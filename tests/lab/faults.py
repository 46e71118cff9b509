"""Faults for the lab: packet filter rules, routes and links, each healed when its block is left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from helpers.model import Family
from tests.lab import nft
from tests.lab.nft import Chain, Rule
from tests.lab.topology import NODE_TABLE, Lab, node_rules

TABLE = "fault"
FORWARD = Chain()
DNAT = Chain("prerouting", -100, "nat")
SNAT = Chain("postrouting", 90, "nat")
# Before fragments are put together: only there a rule sees them.
EARLY = Chain("prerouting", -450)
OUTPUT = Chain("output", -10)
POSTROUTING = Chain("postrouting", -10)


def tc(namespace: str, *arguments: str) -> None:
    """Queueing disciplines of a namespace."""
    argv = ["ip", "netns", "exec", namespace, "tc", *arguments]
    subprocess.run(argv, check=True, capture_output=True, timeout=10)


@contextmanager
def fault(namespace: str, family: Family, *rules: Rule, chain: Chain = FORWARD) -> Iterator[None]:
    """Rules on the packets that a namespace forwards, or at another hook, then no more."""
    try:
        nft.add_table(namespace, family, TABLE, [(chain, rules)])
        yield
    finally:
        nft.delete_table(namespace, family, TABLE)


@contextmanager
def unchecked_sources(lab: Lab, family: Family) -> Iterator[None]:
    """Node n1 takes any source from its pods, and any packet for good, in one family."""
    nft.delete_table(lab.namespace("n1"), family, NODE_TABLE)
    try:
        yield
    finally:
        node_rules(lab, "n1", family)
