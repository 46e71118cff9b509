"""Which features the cluster was declared to have.

Declared, not observed: when the profile says ipvs and a node runs iptables, the requirements of
ipvs must fail there and not be skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from helpers.requirements import FEATURES

if TYPE_CHECKING:
    from clusters.api import Cluster


def _runs(cluster: Cluster, *modes: str) -> bool:
    """Whether a node group is declared to run one of these modes, or may (auto)."""
    return any(group.proxy_mode.value in (*modes, "auto") for group in cluster.spec.nodes)


# Features that no profile declares (sctp: the kernel's; calico-ipam: always) are the test's to see.
_DECLARED: Final[Mapping[str, Callable[[Cluster], bool]]] = {
    "bgp": lambda cluster: cluster.spec.bgp,
    "ebpf": lambda cluster: cluster.spec.calico_dataplane.value == "ebpf",
    "encapsulation": lambda cluster: not cluster.spec.native,
    "ipvs": lambda cluster: _runs(cluster, "ipvs"),
    "kube-proxy": lambda cluster: cluster.spec.calico_dataplane.value != "ebpf",
    "native": lambda cluster: cluster.spec.native,
    "outside": lambda cluster: cluster.outside is not None,
    "proxy-tables": lambda cluster: _runs(cluster, "iptables", "nftables"),
}


def why_not(needs: Iterable[str], cluster: Cluster) -> str | None:
    """The reason to skip a requirement that needs these features, None when none is missing."""
    missing = [need for need in needs if need in _DECLARED and not _DECLARED[need](cluster)]
    if not missing:
        return None
    said = "; ".join(f"{need} ({FEATURES[need]})" for need in missing)
    return f"the cluster was not declared to have: {said}"
