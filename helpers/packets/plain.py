"""Packets of either family without extension headers and options."""

from __future__ import annotations

from helpers.model import IPAddress
from helpers.packets.extension import chained
from helpers.packets.options4 import with_options
from helpers.packets.upper import Upper


def plain(
    source: IPAddress,
    target: IPAddress,
    layer: Upper,
    hop_limit: int = 64,
    *,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    """A plain packet that must not be fragmented.

    Args:
        hop_limit: TTL of IPv4.
        traffic_class: DSCP and ECN; TOS of IPv4.
        flow_label: of IPv6; IPv4 has none.
    """
    if target.version == 4:
        return with_options(source, target, b"", layer, hop_limit=hop_limit, tos=traffic_class)
    return chained(
        source,
        target,
        [],
        layer,
        hop_limit=hop_limit,
        traffic_class=traffic_class,
        flow_label=flow_label,
    )
