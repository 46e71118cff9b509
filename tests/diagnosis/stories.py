"""What a run with a fault is told by: the pieces of stories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helpers.calico import IPPool
from helpers.model import Family
from helpers.views import NodeView
from reports.model import ClusterInfo, RequirementResult
from tests.diagnosis.conftest import result

V6 = Family.IPV6
POOL = {
    "name": "default-ipv6-ippool",
    "cidr": "fd00:10:244::/56",
    "disabled": False,
    "natOutgoing": False,
    "ipipMode": "Never",
    "vxlanMode": "Never",
    "nodeSelector": "all()",
}


def pool(**spec: Any) -> IPPool:
    wanted = {"cidr": "fd00:10:244::/56", **spec}
    name = wanted.pop("name", "default-ipv6-ippool")
    return IPPool.from_api({"metadata": {"name": name}, "spec": wanted})


def node(name: str, *addresses: str, labels: dict[str, str] | None = None) -> NodeView:
    found = [{"type": "InternalIP", "address": a} for a in addresses]
    return NodeView.from_api(
        {
            "metadata": {"name": name, "labels": labels or {}, "annotations": {}},
            "spec": {},
            "status": {"addresses": found, "nodeInfo": {"kernelVersion": "6.18"}},
        }
    )


def failing(name: str, findings: list[str], family: str = "ipv6") -> RequirementResult:
    assert findings, f"{name}: the judgement finds nothing"
    return result(name, family, "fail", *findings)


def passing(*names: str, family: str = "ipv6") -> list[RequirementResult]:
    return [result(name, family, "pass") for name in names]


@dataclass
class Story:
    """Results of a run with a fault, and what must be said of it."""

    fault: str
    results: list[RequirementResult]
    rule: str
    cause: str
    info: ClusterInfo | None = field(default=None)
