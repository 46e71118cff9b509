"""The rules: every named cause. Their order breaks ties between equally specific ones."""

from __future__ import annotations

from typing import Final

from reports.diagnosis.rule import Rule
from reports.diagnosis.rules import (
    addressing,
    nodes,
    packets,
    paths,
    policy,
    ranges,
    service_proxy,
    single,
)

RULES: Final[tuple[Rule, ...]] = (
    *ranges.RULES,
    *addressing.RULES,
    *nodes.RULES,
    *policy.RULES,
    *service_proxy.RULES,
    *packets.RULES,
    *paths.RULES,
    *single.RULES,
)
