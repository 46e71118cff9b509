"""RTE-005 on what `ip -ts -o monitor route` writes."""

from __future__ import annotations

from ipaddress import ip_network

from helpers.model import Family
from helpers.route_changes import Watched, flap_findings, maker_findings, parse

BLOCK = ip_network("fd00:10:244:1::/122")
OTHER = ip_network("fd00:10:244:2::/122")
TEXT = """\
[2026-11-24T08:00:01.000001] Deleted fd00:10:244:1::/122 via fd00:10:243::3 dev eth0 proto bird \
metric 1024 pref medium
[2026-11-24T08:00:02.000001] fd00:10:244:1::/122 via fd00:10:243::3 dev eth0 proto bird metric 1024
[2026-11-24T08:00:03.000001] fd00:10:244:1::7 dev cali1 metric 1024 pref medium
[2026-11-24T08:00:04.000001] blackhole 10.244.1.0/26 proto bird
[2026-11-24T08:00:05.000001] default via 10.243.0.250 dev eth0
local fd00:10:244:1::7 dev eth0 table local proto kernel metric 0 pref medium
"""


def test_changes_of_blocks_are_found_and_nothing_else() -> None:
    changes = parse("worker", TEXT, [BLOCK, OTHER, ip_network("10.244.1.0/26")])
    assert [(str(c.block), c.gone) for c in changes] == [
        (str(BLOCK), True),
        (str(BLOCK), False),
        ("10.244.1.0/26", False),
    ]


def test_a_flap_is_told_once_per_node_and_block() -> None:
    watched = Watched(tuple(parse("worker", TEXT, [BLOCK])), {})
    (finding,) = flap_findings(watched, Family.IPV6)
    assert finding.startswith(f"worker: the route to block {BLOCK} changed 2 times")
    assert flap_findings(watched, Family.IPV4) == []


def test_two_routes_to_one_block_have_two_makers() -> None:
    watched = Watched((), {("worker", BLOCK): ("bird", "80"), ("worker", OTHER): ("bird",)})
    (finding,) = maker_findings(watched, Family.IPV6)
    assert f"block {BLOCK} has 2 routes, by BIRD, Felix" in finding
