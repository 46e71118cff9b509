"""Sessions: the protocol, and that an agent which lies, stalls or dies never yields a verdict."""

from __future__ import annotations

import json
import sys
import threading
import time
from ipaddress import ip_address

import pytest

from helpers.agents import client
from helpers.agents.archive import local_archive
from helpers.agents.client import Agent, AgentError, Loss
from helpers.agents.transport import ProcessTransport
from helpers.model import DualAddresses, Protocol
from helpers.oneway import one_way
from helpers.probes import Outcome, Probe, dns, run, tcp_bulk
from helpers.verdicts import Inconclusive
from tests.agents.conftest import LOCAL_RUN, LOOPBACK

HELLO = json.dumps({"hello": {"protocol": 1, "name": "liar", "capabilities": {}}})
PROBE = Probe(Protocol.TCP, ip_address("::1"), 9, timeout=0.2)


def scripted(*answers: str, losses: list[Loss] | None = None, hello: str = HELLO) -> Agent:
    """An agent that says hello and then these lines at its first request, whatever it is."""
    program = (
        "import sys; print(sys.argv[1], flush=True); sys.stdin.readline()\n"
        "for line in sys.argv[2:]: print(line, flush=True)\n"
        "if sys.argv[-1] == 'cut': sys.stdout.close()\n"
        "else: sys.stdin.read()\n"
    )
    argv = [sys.executable, "-S", "-c", program, hello, *answers]
    noted = losses if losses is not None else []
    return Agent("liar", lambda: ProcessTransport(argv), addresses=LOOPBACK, on_loss=noted.append)


def test_the_hello_says_who_and_what(agent: Agent) -> None:
    hello = agent.hello
    assert hello["protocol"] == client.PROTOCOL
    assert hello["capabilities"]["ipv4"]
    assert hello["capabilities"]["ipv6"]
    assert abs(hello["clock"] - time.time()) < 60
    assert agent.identity == "local"


def test_a_remote_error_carries_the_remote_traceback(agent: Agent) -> None:
    with pytest.raises(AgentError, match="KeyError") as caught:
        agent.call("read_file")
    assert "op_read_file" in "".join(caught.value.__notes__)
    assert agent.call_one("read_file", path="/proc/version")["error"] is None  # still there


def test_an_unknown_operation_names_the_known_ones(agent: Agent) -> None:
    with pytest.raises(AgentError, match=r"unknown op 'teleport'; known: .*probe"):
        agent.call("teleport")


def test_stray_prints_cannot_corrupt_the_stream() -> None:
    """Python's print, the descriptor itself and a child all miss the stream."""
    program = (
        "import os, subprocess, sys, types\n"
        f"sys.path.insert(0, {str(local_archive())!r})\n"
        "from helpers.agents.remote import runner\n"
        "def noisy(call):\n"
        "    print('stray'); os.write(1, b'stray'); subprocess.run(['echo', 'stray'])\n"
        "    call.emit(0, {'quiet': True})\n"
        "sys.modules['noise'] = types.SimpleNamespace(op_noisy=noisy)\n"
        "runner.OPS['noisy'] = 'noise'\n"
        "runner.Runner('noisy', '').run()\n"
    )
    argv = [sys.executable, "-u", "-c", program]
    agent = Agent("noisy", lambda: ProcessTransport(argv), addresses=LOOPBACK)
    for _ in range(3):
        assert agent.call_one("noisy") == {"quiet": True}
    agent.close()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["not json"], "does not keep the protocol"),
        (['{"id": 99, "done": 0}'], "does not keep the protocol"),
        (['{"id": 1, "i": 0}'], "does not keep the protocol"),
        (['{"id": 1, "i": 0, "result": {}}'] * 2, "does not keep the protocol"),
        (['{"id": 1, "done": 7}'], "does not keep the protocol"),
        (['{"id": 1, "i": 0, "result": {"outcome": "reached"}}', "cut"], "does not keep"),
        (["cut"], "does not keep"),
    ],
)
def test_an_agent_that_lies_is_lost_and_proves_nothing(answers: list[str], said: str) -> None:
    losses: list[Loss] = []
    liar = scripted(*answers, losses=losses)
    (seen,) = run(liar, [PROBE])
    liar.close()
    assert seen.outcome is Outcome.INCONCLUSIVE
    assert said in str(seen.error)
    assert [loss.op for loss in losses] == ["probe"]


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ("hello world", "no hello"),
        ('{"hello": {"protocol": 99, "name": "x"}}', "speaks protocol 99"),
        ('{"goodbye": 1}', "no hello"),
    ],
)
def test_a_wrong_hello_is_a_loss(hello: str, said: str) -> None:
    liar = scripted(hello=hello)
    with pytest.raises(Inconclusive, match=said):
        liar.call("probe", probes=[])
    liar.close()


def test_an_agent_that_dies_in_the_middle_is_inconclusive_and_comes_back() -> None:
    losses: list[Loss] = []
    agent = Agent(
        "mortal", lambda: ProcessTransport(LOCAL_RUN), addresses=LOOPBACK, on_loss=losses.append
    )
    pid = agent.hello["pid"]
    with pytest.raises(Inconclusive, match="was lost during run"):
        agent.call("run", argv=["kill", "-9", str(pid)])
    assert agent.hello["pid"] != pid
    assert len(losses) == 1
    agent.close()


def test_an_agent_that_ended_while_idle_is_replaced_without_a_lost_probe() -> None:
    losses: list[Loss] = []
    transports: list[ProcessTransport] = []

    def connect() -> ProcessTransport:
        transports.append(ProcessTransport(LOCAL_RUN))
        return transports[-1]

    agent = Agent("idle", connect, addresses=LOOPBACK, on_loss=losses.append)
    assert agent.hello["name"] == "local"
    transports[0]._process.kill()
    transports[0]._process.wait()
    assert run(agent, [PROBE])[0].outcome is Outcome.REFUSED
    assert [loss.reason for loss in losses] == ["the agent ended while nothing was asked of it"]
    agent.close()


def test_two_losses_in_a_row_end_it() -> None:
    losses: list[Loss] = []
    gone = Agent(
        "gone",
        lambda: ProcessTransport(["/nonexistent/agent"]),
        addresses=LOOPBACK,
        on_loss=losses.append,
    )
    for _ in range(2):
        with pytest.raises(Inconclusive, match="could not be started"):
            gone.call("facts")
    with pytest.raises(Inconclusive, match="lost 2 times in a row and is given up"):
        gone.call("facts")
    assert len(losses) == 2


def test_a_late_agent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MARGIN_SECONDS", 0.2)
    agent = Agent("late", lambda: ProcessTransport(LOCAL_RUN), addresses=LOOPBACK)
    assert agent.hello["name"] == "local"
    with pytest.raises(Inconclusive, match="said nothing for"):
        agent.call("sleep", 0.1, seconds=30)
    agent.close()


def test_what_an_agent_does_not_reach_in_time_is_inconclusive(agent: Agent) -> None:
    silent = Probe(Protocol.UDP, ip_address("127.0.0.1"), 9, timeout=3)
    blackhole = agent.call_one("udp_listen", version=4)
    silent = Probe(Protocol.UDP, ip_address("127.0.0.1"), blackhole["port"], timeout=3)
    seen = run(agent, [silent, PROBE], deadline=0.3)
    agent.call("close", handle=blackhole["handle"])
    assert [o.outcome for o in seen] == [Outcome.INCONCLUSIVE, Outcome.REFUSED]
    assert "not done within 0.3 s" in str(seen[0].error)


def test_every_kind_of_observation_is_inconclusive_without_an_agent() -> None:
    def gone() -> Agent:
        return Agent("gone", lambda: ProcessTransport(["/nonexistent"]), addresses=LOOPBACK)

    (answer,) = dns(gone(), ["a.example."], "AAAA", ip_address("::1"))
    assert answer.outcome is Outcome.INCONCLUSIVE
    moved = tcp_bulk(gone(), ip_address("::1"), 80, 10)
    assert moved.outcome is Outcome.INCONCLUSIVE
    with pytest.raises(Inconclusive):
        one_way(gone(), gone(), next(iter(DualAddresses.parse(["::1"]).families)))


def test_threads_may_share_an_agent(agent: Agent, echo_port: int) -> None:
    outcomes: list[Outcome] = []

    def work() -> None:
        probes = [Probe(Protocol.TCP, ip_address("::1"), echo_port)] * 20
        outcomes.extend(o.outcome for o in run(agent, probes))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Outcome.REACHED] * 160


def test_a_missing_capability_says_what_to_grant() -> None:
    weak = scripted(hello='{"hello": {"protocol": 1, "name": "w", "capabilities": {"raw4": true}}}')
    weak.require("raw4")
    with pytest.raises(Inconclusive, match=r"may not use packet, raw6: give its pod NET_RAW"):
        weak.require("packet", "raw4", "raw6")
    weak.close()
