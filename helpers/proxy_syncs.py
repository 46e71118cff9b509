"""When kube-proxy ended its last look at the Services, by its own metrics.

In ipvs mode it balances first and fills its ipsets last: which packets are masqueraded, refused or
the node's own is settled only when the whole look has ended (kubernetes#133773). On a node with a
guest kernel seconds lie between, in which a Service answers, is refused and answers again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from helpers.parallel import on_each
from helpers.service_proxy_config import LOOPBACKS, METRICS_PORT
from helpers.waiting import NotSettled, eventually

if TYPE_CHECKING:
    from helpers.agents.client import Agent

_SAMPLE: Final = re.compile(
    r"^kubeproxy_sync_proxy_rules_(last_timestamp_seconds|duration_seconds_(?:sum|count))"
    r"(?:\{[^}]*ip_family=\"(\w+)\"[^}]*\})? (\S+)$",
    re.MULTILINE,
)
MARGIN: Final = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Syncs:
    """Looks of one kube-proxy.

    Attributes:
        ended: by family, when the last one ended; its own clock.
        seconds: how long one takes on average, of the slower family.
    """

    ended: Mapping[str, float]
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Syncs:
        """From the text of ``/metrics``; without samples nothing has ended."""
        found: dict[str, dict[str, float]] = {}
        for name, family, value in _SAMPLE.findall(text):
            found.setdefault(name, {})[family] = float(value)
        sums, counts = (found.get(f"duration_seconds_{n}", {}) for n in ("sum", "count"))
        means = [sums.get(family, 0.0) / count for family, count in counts.items() if count]
        return cls(found.get("last_timestamp_seconds", {}), max(means, default=0.0))

    def newer_than(self, other: Syncs) -> bool:
        """Whether one has ended since in every family."""
        return all(self.ended.get(family, 0.0) > at for family, at in other.ended.items())


def read_syncs(host: Agent) -> Syncs:
    """Of the kube-proxy on a node agent's node; of none when it does not answer."""
    for address in LOOPBACKS:
        answer = host.call_one("http_get", url=f"http://{address}:{METRICS_PORT}/metrics")
        if answer["status"] == 200:
            return Syncs.parse(answer["body"])
    return Syncs({}, 0.0)


def look_ended(hosts: Iterable[Agent]) -> None:
    """Wait until the looks that go on now on these nodes have ended.

    Two times the average is patience enough: after that none goes on.
    """
    before = on_each(list(hosts), read_syncs)
    if not any(seen.ended for seen in before.values()):
        return
    with contextlib.suppress(NotSettled):
        eventually(
            lambda: on_each(before, read_syncs),
            lambda now: all(now[host].newer_than(seen) for host, seen in before.items()),
            within=2 * max(seen.seconds for seen in before.values()) + MARGIN,
            every=1.0,
            what="kube-proxy on nodes with a guest kernel has ended its look at the Services",
        )
