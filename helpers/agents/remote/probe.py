"""Probes: many flows on one loop."""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.flows import Flow, SctpFlow, TcpFlow, UdpFlow
from helpers.agents.remote.ping import PingFlow

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


PARALLEL = 256  # flows in flight of one batch: below the usual limit of 1024 descriptors
FLOWS = {"tcp": TcpFlow, "udp": UdpFlow, "icmp": PingFlow, "sctp": SctpFlow}


def close_at_once(sock: socket.socket) -> None:
    """Close without TIME_WAIT: thousands of probes a second would use up the source ports."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def op_probe(call: Call) -> None:
    """``probes``: list of {protocol, target, port, size, timeout, ...}; one result for each."""
    waiting = collections.deque(enumerate(call.args["probes"]))
    parallel = int(call.args.get("parallel", PARALLEL))
    active: dict[int, Flow] = {}
    due: list[tuple[float, int, Flow]] = []
    serial = itertools.count()
    epoll = select.epoll()
    try:
        while waiting or active:
            while waiting and len(active) < parallel:
                flow = _launch(epoll, waiting, call)
                if flow is not None and flow.sock is not None:
                    active[flow.sock.fileno()] = flow
                    heapq.heappush(due, (flow.until, next(serial), flow))
            pause = max(0.0, due[0][0] - time.monotonic()) if due else 0.0
            for fd, events in epoll.poll(min(pause, 0.5), 512):
                active[fd].on_event(events)
                _settle(epoll, active, fd, call)
            while due and (due[0][2].result or due[0][0] <= time.monotonic()):
                flow = heapq.heappop(due)[2]
                if flow.result is None and flow.sock is not None:
                    flow.expire()
                    _settle(epoll, active, flow.sock.fileno(), call)
            if call.expired:
                break  # what has no result is inconclusive on the other side
    finally:
        for flow in active.values():
            if flow.sock is not None:
                flow.sock.close()
        epoll.close()


def _launch(epoll: Any, waiting: collections.deque[tuple[int, Json]], call: Call) -> Flow | None:
    index, spec = waiting.popleft()
    flow: Flow = FLOWS[spec["protocol"]](index, spec)
    flow.start()
    if flow.result is not None or flow.sock is None:
        if flow.sock is not None:
            flow.sock.close()
        call.emit(index, flow.result or {})
        return None
    # Edge-triggered: a writable socket says so once, not at every turn.
    epoll.register(flow.sock.fileno(), flow.interest | select.EPOLLET)
    return flow


def _settle(epoll: Any, active: dict[int, Flow], fd: int, call: Call) -> None:
    flow = active[fd]
    if flow.result is None or flow.sock is None:
        return
    del active[fd]
    close_at_once(flow.sock)  # closing takes it out of the epoll set
    call.emit(flow.index, flow.result)
