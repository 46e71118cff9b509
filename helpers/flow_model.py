"""Continuous flows as data: what is to be sent, and what became of it.

Two numbers tell how bad a cut was, and neither says the other: the longest gap, which a user sees
as an outage, and the total loss, which many short gaps add up to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from helpers.agents.client import Agent
from helpers.model import Family, IPAddress


class FlowKind(StrEnum):
    """What a continuous flow does."""

    UDP = "udp"  # numbered datagrams in one direction, counted by their receivers
    ICMP = "icmp"  # echoes
    TCP = "tcp"  # one established connection, numbered messages that come back
    IDLE = "idle"  # one established connection that speaks at its beginning and at its end
    CONNECT = "connect"  # a new TCP connection each time, with a request and its echo
    DNS = "dns"  # a question each time, from a new port


class Way(StrEnum):
    """The path that a flow takes: what its limits depend on."""

    SAME_NODE = "same node"
    OTHER_NODE = "other node"
    CLUSTER_IP = "clusterIP"
    NODE_PORT = "NodePort from outside"
    EGRESS = "egress"
    INGRESS = "ingress"
    NODES = "node to node"
    CONTROL = "loopback"  # an agent to itself: what stalls there is the machine, not the network


# Seconds between two sendings: the resolution of what a gap is measured with.
INTERVALS: Final = {
    FlowKind.UDP: 0.02,
    FlowKind.ICMP: 0.05,
    FlowKind.TCP: 0.05,
    FlowKind.IDLE: 1.0,  # how often it is looked whether the connection still is
    FlowKind.CONNECT: 0.2,
    FlowKind.DNS: 0.2,
}
# Seconds after which something sent counts as lost, or as a stall where it comes after all. Less
# than TCP's first retransmission of a SYN (1 s, RFC 6298): a second try would hide the gap.
PATIENCE: Final = {
    FlowKind.UDP: 1.0,
    FlowKind.ICMP: 0.9,
    FlowKind.TCP: 0.5,
    FlowKind.IDLE: 1.5,
    FlowKind.CONNECT: 0.9,
    FlowKind.DNS: 0.9,
}


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow to be.

    Attributes:
        source: agent that sends.
        target: address that it sends to; decides the family.
        to: who answers or receives, for messages, e.g. a node or ``web``.
        port: port of the target; None: ICMP, or UDP straight to its one receiver.
        receivers: UDP: agents of which each datagram may come to one.
        listen: UDP: port that receivers listen on, None: any (not behind a Service).
        question: DNS: name and record type.
        interval: seconds; 0: the kind's own.
        patience: seconds; 0: the kind's own.
    """

    kind: FlowKind
    way: Way
    source: Agent
    target: IPAddress
    to: str
    port: int | None = None
    receivers: tuple[Agent, ...] = ()
    listen: int | None = None
    question: tuple[str, str] | None = None
    interval: float = 0.0
    patience: float = 0.0

    def __post_init__(self) -> None:
        if (self.kind is FlowKind.UDP) != bool(self.receivers):
            raise ValueError(f"{self.name}: receivers belong to UDP flows, and to each of them")
        if (self.kind is FlowKind.DNS) != (self.question is not None):
            raise ValueError(f"{self.name}: a question belongs to DNS flows, and to each of them")
        if self.kind is FlowKind.UDP and self.port is None and len(self.receivers) > 1:
            raise ValueError(f"{self.name}: several receivers need the port of a Service")

    @property
    def family(self) -> Family:
        return Family.of(self.target)

    @property
    def name(self) -> str:
        """One line of a timeline: ``udp ipv6 other node: pod agent on a -> b``."""
        return f"{self.kind} {self.family} {self.way}: {self.source.name} -> {self.to}"

    @property
    def every(self) -> float:
        return self.interval or INTERVALS[self.kind]

    @property
    def limit(self) -> float:
        return self.patience or PATIENCE[self.kind]


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of what was lost, by its times of sending, in the harness's wall clock.

    Attributes:
        seconds: from the first that was lost to the first that was delivered again.
        lost: how many were lost in a row.
        at_least: from the first to the last that was lost.
        at_most: between those delivered before and after.
        still: it lasted until the flow ended.
    """

    began: float
    seconds: float
    lost: int
    at_least: float
    at_most: float
    still: bool = False

    @property
    def ended(self) -> float:
        return self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Stall:
    """What was sent at ``began`` came, or was answered, only ``seconds`` later."""

    began: float
    seconds: float

    @property
    def ended(self) -> float:
        return self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Reset:
    """An established connection ended."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class FlowReport:
    """What became of one flow. Times are the harness's wall clock, off by ``uncertainty`` at most.

    Attributes:
        sent: how many were sent and are decided.
        lost: how many of them were not delivered: the total loss.
        gaps: the longest first; at most 500 of ``gap_count``.
        outage: seconds of all gaps together.
        slowest: seconds of the slowest delivery; for one-way UDP above that of the quickest.
        longest_pause: seconds that the sender itself once sent nothing: what it could not see.
        own_errors: attempts that the sending host itself could not make.
        servers: who answered, and how often (TCP: connections; UDP: source addresses seen).
    """

    flow: Flow
    began: float
    until: float
    sent: int
    lost: int
    gaps: tuple[Gap, ...]
    gap_count: int
    outage: float
    stalls: tuple[Stall, ...]
    resets: tuple[Reset, ...]
    reset_count: int
    slowest: float
    longest_pause: float
    own_errors: int
    uncertainty: float
    errors: Mapping[str, int] = field(default_factory=dict)
    servers: Mapping[str, int] = field(default_factory=dict)

    @property
    def longest_gap(self) -> float:
        """Seconds; 0.0 without a loss."""
        return max((gap.seconds for gap in self.gaps), default=0.0)

    @property
    def longest_stall(self) -> float:
        return max((stall.seconds for stall in self.stalls), default=0.0)

    @property
    def share_lost(self) -> float:
        """Of what was sent, between 0 and 1."""
        return self.lost / self.sent if self.sent else 0.0

    def __str__(self) -> str:
        said = f"{self.flow.name}: {self.lost} of {self.sent} lost"
        if self.gaps:
            said += f", longest gap {self.longest_gap:.2f} s, all gaps {self.outage:.2f} s"
        if self.stalls:
            said += f", longest stall {self.longest_stall:.2f} s"
        if self.reset_count:
            said += f", {self.reset_count} resets ({self.resets[0].why})"
        if self.errors:
            worst = max(self.errors, key=lambda text: self.errors[text])
            said += f", mostly: {worst}"
        return said

    def to_json(self) -> dict[str, Any]:
        """For evidence and reports: the flow by its words, the rest as it is."""
        return {
            "name": self.flow.name,
            "kind": self.flow.kind.value,
            "way": self.flow.way.value,
            "family": self.flow.family.value,
            "interval": self.flow.every,
            "longest_gap": self.longest_gap,
            "longest_stall": self.longest_stall,
            **plain(self),
        }


def plain(report: FlowReport) -> dict[str, Any]:
    """A report's own fields as plain data; its flow holds agents, which are none."""
    found: dict[str, Any] = {}
    for name in report.__slots__:
        if name == "flow":
            continue
        value = getattr(report, name)
        if isinstance(value, tuple):
            value = [asdict(item) for item in value]
        found[name] = dict(value) if isinstance(value, Mapping) else value
    return found
