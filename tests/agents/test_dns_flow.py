"""A continuous flow of DNS questions, against a server of which everything is known."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from helpers.agents.client import Agent
from helpers.flow_model import Flow, FlowKind, FlowReport, Way
from helpers.flows import flowing
from helpers.waiting import eventually

ADDRESS = ip_address("::1")
AAAA = ADDRESS.packed


@contextmanager
def dns_server(flags: int, answers: int) -> Iterator[int]:
    """Answers every question with the same address, until the block ends."""
    record = b"\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x05\x00\x10" + AAAA
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))

        def serve() -> None:
            while True:
                query, peer = sock.recvfrom(2000)
                if not query:
                    return
                counts = flags.to_bytes(2, "big") + b"\0\1" + answers.to_bytes(2, "big") + bytes(4)
                reply = query[:2] + counts + query[12:] + record * answers
                sock.sendto(reply, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as goodbye:
                goodbye.sendto(b"", sock.getsockname())
            thread.join(5)


def questions(agent: Agent, port: int) -> Flow:
    question = ("web.example.", "AAAA")
    return Flow(
        FlowKind.DNS,
        Way.CLUSTER_IP,
        agent,
        ADDRESS,
        "dns",
        port=port,
        question=question,
        interval=0.05,
    )


def asked(agent: Agent, port: int) -> FlowReport:
    with flowing([questions(agent, port)]) as running:
        eventually(lambda: running.look()[0].sent, lambda sent: sent > 5, within=10, every=0.1)
        (report,) = running.stop()
    return report


def test_answers_with_the_record_are_delivered(agent: Agent) -> None:
    with dns_server(0x8180, answers=1) as port:
        report = asked(agent, port)
    assert (report.lost, report.errors, report.own_errors) == (0, {}, 0), report


@pytest.mark.parametrize(("flags", "said"), [(0x8183, "NXDOMAIN"), (0x8180, "NOERROR")])
def test_answers_without_the_record_are_lost(agent: Agent, flags: int, said: str) -> None:
    with dns_server(flags, answers=0) as port:
        report = asked(agent, port)
    assert report.lost == report.sent > 0
    assert list(report.errors) == [f"{said} without the record"]


def test_nobody_there_is_told(agent: Agent) -> None:
    report = asked(agent, 1)
    assert report.lost == report.sent > 0
    assert "ECONNREFUSED" in next(iter(report.errors))
