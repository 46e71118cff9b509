"""Agents on this machine, over loopback only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from helpers.agents.archive import local_archive
from helpers.agents.client import Agent
from helpers.agents.transport import ProcessTransport
from helpers.model import DualAddresses

LOOPBACK = DualAddresses.parse(["127.0.0.1", "::1"])
LOCAL_RUN = (sys.executable, "-u", str(local_archive()), "run", "--name", "local")


@pytest.fixture(scope="session")
def agent() -> Iterator[Agent]:
    """An agent in a process of its own."""
    made = Agent("local", lambda: ProcessTransport(LOCAL_RUN), addresses=LOOPBACK)
    yield made
    made.close()


@pytest.fixture(scope="session")
def echo_port(agent: Agent) -> int:
    """TCP port of an echo server of both families that lives in the agent's process."""
    first = agent.call_one("listen", version=4)
    agent.call_one("listen", version=6, port=first["port"])
    return int(first["port"])


@pytest.fixture
def serving() -> Iterator[subprocess.Popen[bytes]]:
    """``agent.pyz serve`` as a pod runs it, on free ports."""
    argv = [sys.executable, str(local_archive()), "serve", "--name", "srv", "--tcp", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
