"""Addresses that Calico's IPAM goes on holding for pods that are gone, or were never made."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.findings import listed
from helpers.newborn import allocated
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.kube import Kube


def still_held(kube: Kube, pods: Mapping[str, str], within: float, what: str) -> list[str]:
    """What is still allocated after so many seconds: for the caller to judge.

    Args:
        pods: ``namespace/name`` -> node.
        within: seconds; returns as soon as nothing is held.
        what: the wait's name in the report.
    """
    held: list[str] = []

    def look() -> list[str]:
        held[:] = [str(each.address) for each in allocated(kube, pods)]
        return list(held)

    with contextlib.suppress(NotSettled):
        eventually(
            look, lambda seen: not seen, within=within, every=0.5, describe=listed, what=what
        )
    return held
