"""IP pools that a test makes for itself, so that it changes nobody else's.

Their ranges are those of benchmark networks (RFC 2544, RFC 5180): no cluster has them. They are
Manual, so that only pods that ask for them by name get addresses of theirs. What Calico's API
server would do when a pool is deleted is done here: the blocks of the pool go with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from helpers.calico import Block, BlockAffinity
from helpers.model import Family, IPAddress, IPNetwork
from helpers.naming import MANAGED_BY, PREFIX
from helpers.policy.objects import CALICO
from helpers.waiting import eventually

if TYPE_CHECKING:
    from helpers.kube import Kube, Object

RANGES: Final[Mapping[Family, IPNetwork]] = {
    Family.IPV4: ip_network("198.18.77.0/24"),
    Family.IPV6: ip_network("2001:2:0:77::/120"),
}
POOL: Final = (CALICO, "IPPool")  # what the API is asked for
BLOCK_SIZE: Final[Mapping[Family, int]] = {Family.IPV4: 26, Family.IPV6: 122}  # Calico's defaults
FREED_WITHIN: Final = 60.0  # seconds for the addresses of deleted pods


@dataclass(frozen=True, slots=True)
class OwnPool:
    """A pool of a test."""

    name: str
    cidr: IPNetwork

    @property
    def annotation(self) -> dict[str, str]:
        """What makes a pod take its address of this family from the pool."""
        version = Family.of(self.cidr).version
        return {f"cni.projectcalico.org/ipv{version}pools": json.dumps([self.name])}


def pool_manifest(name: str, cidr: IPNetwork, *, nat_outgoing: bool, disabled: bool) -> Object:
    """An IPPool as it is stored, every field written."""
    return {
        "apiVersion": CALICO,
        "kind": "IPPool",
        "metadata": {"name": name, "labels": dict(MANAGED_BY)},
        "spec": {
            "cidr": str(cidr),
            "blockSize": BLOCK_SIZE[Family.of(cidr)],
            "ipipMode": "Never",
            "vxlanMode": "Never",
            "natOutgoing": nat_outgoing,
            "disabled": disabled,
            "nodeSelector": "all()",
            "allowedUses": ["Workload"],
            "assignmentMode": "Manual",
        },
    }


@contextmanager
def own_pool(
    kube: Kube, family: Family, *, nat_outgoing: bool, holding: IPAddress | None = None
) -> Iterator[OwnPool]:
    """A pool that exists while the block runs.

    Args:
        holding: an address outside of the cluster that the pool is to contain: the pool is
            disabled then and gives no addresses. Default: a pool for pods.
    """
    cidr = RANGES[family]
    if holding is not None:
        cidr = ip_network(f"{holding}/{BLOCK_SIZE[family]}", strict=False)
    name = f"{PREFIX}-{'holding' if holding else 'own'}-{family}"
    pool = OwnPool(name, cidr)
    kube.apply([pool_manifest(name, cidr, nat_outgoing=nat_outgoing, disabled=bool(holding))])
    try:
        yield pool
    finally:
        release(kube, pool)


def release(kube: Kube, pool: OwnPool) -> None:
    """Delete the pool and its blocks once no pod has an address of it.

    Raises:
        NotSettled: addresses of deleted pods are still allocated.
    """

    def mine(cidr: IPNetwork) -> bool:
        return cidr.version == pool.cidr.version and cidr.network_address in pool.cidr

    def held() -> list[str]:
        blocks = [Block.from_api(item) for item in kube.calico("IPAMBlock")]
        return [str(a.pod) for b in blocks if mine(b.cidr) for a in b.allocations]

    eventually(held, lambda left: not left, within=FREED_WITHIN, what=f"{pool.name} is unused")
    kube.delete(*POOL, pool.name)
    for item in kube.calico("BlockAffinity"):
        if mine(BlockAffinity.from_api(item).cidr):
            kube.delete(CALICO, "BlockAffinity", item["metadata"]["name"])
    for item in kube.calico("IPAMBlock"):
        if mine(Block.from_api(item).cidr):
            kube.delete(CALICO, "IPAMBlock", item["metadata"]["name"])
