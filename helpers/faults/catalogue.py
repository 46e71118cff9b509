"""All faults: importing this module registers how each one is planted."""

from __future__ import annotations

from helpers.faults import (  # noqa: F401
    addresses,
    configuration,
    controls,
    packets,
    paths,
    policy,
    resilience,
    routing,
    service_proxy,
    services,
    services_beyond,
)
