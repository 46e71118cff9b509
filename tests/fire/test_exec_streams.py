"""Exec streams that are cut or stall in the middle of a message: a loss, soon, and no verdict."""

from __future__ import annotations

import struct
import threading
import time
from ipaddress import ip_address

import pytest

from helpers.agents import client, transport
from helpers.agents.client import Agent
from helpers.model import Protocol
from helpers.probes import Outcome, Probe, run
from tests.agents.test_exec import FakeKubelet, agent, kubelet  # noqa: F401  # fixtures

PROBE = Probe(Protocol.TCP, ip_address("::1"), 9, timeout=0.5)


def test_a_frame_that_stalls_half_way_is_a_loss(
    agent: Agent,  # noqa: F811
    kubelet: FakeKubelet,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MARGIN_SECONDS", 0.3)
    assert agent.hello["name"]
    agent._transport._stream.sock.settimeout(0.5)  # type: ignore[union-attr]
    header = struct.pack("!BBH", 0x82, 126, 5000)  # a binary frame of 5,000 bytes
    kubelet.processes[-1].send_signal(19)  # SIGSTOP: nothing of its own comes between
    half = threading.Timer(0.2, kubelet.connections[-1].sendall, [header + b"\x01" + b"{"])
    half.start()
    began = time.monotonic()
    (seen,) = run(agent, [PROBE], deadline=0.5)
    half.join()
    assert seen.outcome is Outcome.INCONCLUSIVE
    assert time.monotonic() - began < 10
    kubelet.processes[-1].kill()
    assert run(agent, [PROBE])[0].outcome is Outcome.REFUSED, "it is connected again"


def test_half_a_frame_while_nothing_is_asked_costs_nothing(
    agent: Agent,  # noqa: F811
    kubelet: FakeKubelet,  # noqa: F811
) -> None:
    assert agent.hello["name"]
    agent._transport._stream.sock.settimeout(0.5)  # type: ignore[union-attr]
    kubelet.processes[-1].send_signal(19)
    kubelet.connections[-1].sendall(struct.pack("!BBH", 0x82, 126, 5000) + b"\x01{")
    assert run(agent, [PROBE])[0].outcome is Outcome.REFUSED
    kubelet.processes[0].kill()


def test_a_line_that_is_cut_in_the_middle_is_not_read(
    agent: Agent,  # noqa: F811
    kubelet: FakeKubelet,  # noqa: F811
) -> None:
    assert agent.hello["name"]
    half = b'\x01{"id": 1, "i": 0, "result": {"outcome": "reached"'
    kubelet.processes[-1].send_signal(19)
    kubelet.connections[-1].sendall(struct.pack("!BB", 0x82, len(half)) + half)
    kubelet.connections[-1].shutdown(2)
    kubelet.processes[-1].kill()
    (seen,) = run(agent, [PROBE])
    assert seen.outcome is not Outcome.REACHED
    assert transport.FRAME_TIMEOUT < 60
