"""Requirements are skipped by what the cluster was declared to be, never by what it turned into."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clusters.spec import load_profile
from helpers.features import why_not


def cluster(**changes: str) -> Any:
    return SimpleNamespace(spec=load_profile("native", changes), outside=None)


@pytest.mark.parametrize(
    ("needs", "changes", "missing"),
    [
        (["native"], {}, None),
        (["native", "bgp"], {"encapsulation.ipv6": "vxlan"}, "native"),
        (["encapsulation"], {}, "encapsulation"),
        (["encapsulation"], {"encapsulation.ipv6": "vxlan"}, None),
        (["ipvs"], {"proxy_mode": "nftables"}, "ipvs"),
        (["ipvs"], {"proxy_mode": "ipvs"}, None),
        (["proxy-tables"], {"proxy_mode": "ipvs"}, "proxy-tables"),
        (["ipvs", "proxy-tables"], {}, None),
        (["outside"], {}, "outside"),
        (["ebpf"], {}, "ebpf"),
        (["calico-ipam", "sctp"], {}, None),
    ],
)
def test_declared_features_decide(
    needs: list[str], changes: dict[str, str], missing: str | None
) -> None:
    reason = why_not(needs, cluster(**changes))
    if missing is None:
        assert reason is None
    else:
        assert reason is not None
        assert f"{missing} (" in reason
