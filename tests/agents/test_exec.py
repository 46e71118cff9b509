"""Agents over an exec stream: the real client against a small server that speaks its protocol.

The server is what API server and kubelet are to the client: it upgrades to WebSocket and carries
channels 0 (stdin), 1 (stdout), 2 (stderr) and 3 (status) of a local agent process.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from helpers.agents.client import Agent
from helpers.agents.transport import REMOTE_RUN, ExecTransport
from helpers.kube import Kube
from helpers.model import Protocol
from helpers.probes import Outcome, Probe, run
from helpers.verdicts import Inconclusive
from tests.agents.conftest import LOCAL_RUN, LOOPBACK

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
TEXT, BINARY, CLOSE = 1, 2, 8


@dataclass
class FakeKubelet:
    """Runs ``argv`` for each exec; its output travels in frames of at most ``frame_size``."""

    port: int = 0
    argv: tuple[str, ...] = LOCAL_RUN
    frame_size: int = 65_536
    asked: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self.guarded, args=(connection,), daemon=True).start()

    def guarded(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            self.exec(connection)

    def exec(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        request = reader.readline().decode().split()[1]
        self.asked.append(request)
        headers = {}
        while line := reader.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        key = base64.b64encode(
            hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()
        ).decode()
        connection.sendall(
            "\r\n".join(
                [
                    "HTTP/1.1 101 Switching Protocols",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    f"Sec-WebSocket-Accept: {key}",
                    "Sec-WebSocket-Protocol: v4.channel.k8s.io",
                    "\r\n",
                ]
            ).encode()
        )
        process = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.processes.append(process)
        lock = threading.Lock()
        pumps = []
        for channel, stream in ((1, process.stdout), (2, process.stderr)):
            assert stream is not None
            pumps.append(
                threading.Thread(
                    target=self.pump,
                    args=(connection, lock, channel, stream.read1),  # type: ignore[attr-defined]
                    daemon=True,
                )
            )
        threading.Thread(target=self.conclude, args=(connection, pumps), daemon=True).start()
        assert process.stdin is not None
        for data in incoming(reader):
            process.stdin.write(data[1:])
            process.stdin.flush()
        process.stdin.close()

    def conclude(self, connection: socket.socket, pumps: list[threading.Thread]) -> None:
        """Like a kubelet: the status follows all output of both streams, never overtakes it."""
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        status = {"status": "Failure", "message": "command terminated with exit code 137"}
        with contextlib.suppress(OSError):
            connection.sendall(outgoing(BINARY, b"\x03" + json.dumps(status).encode()))
            connection.sendall(outgoing(CLOSE, struct.pack("!H", 1000)))

    def pump(
        self,
        connection: socket.socket,
        lock: threading.Lock,
        channel: int,
        read: Callable[[int], bytes],
    ) -> None:
        # The end of the test closes the pipe under this thread, which is a ValueError.
        with contextlib.suppress(OSError, ValueError):
            while data := read(self.frame_size):
                with lock:
                    connection.sendall(outgoing(BINARY, bytes([channel]) + data))


def outgoing(opcode: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return bytes([0x80 | opcode, size]) + data
    if size < 65_536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + data
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + data


def incoming(reader: object) -> Iterator[bytes]:
    read = reader.read  # type: ignore[attr-defined]
    while head := read(2):
        opcode, size = head[0] & 0x0F, head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", read(8))
        mask = read(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(read(size)))
        if opcode == CLOSE:
            return
        if opcode in (TEXT, BINARY):
            yield data


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    fake = FakeKubelet()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake.port = listener.getsockname()[1]
        threading.Thread(target=fake.serve, args=(listener,), daemon=True).start()
        yield fake
        listener.shutdown(socket.SHUT_RDWR)
    for process in fake.processes:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    for connection in fake.connections:
        connection.close()


def kubeconfig(directory: Path, port: int) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def agent(kubelet: FakeKubelet, tmp_path: Path) -> Iterator[Agent]:
    """An agent behind the fake kubelet."""
    kube = Kube(kubeconfig(tmp_path, kubelet.port))
    made = Agent(
        "exec", lambda: ExecTransport(kube, "ns", "pod", REMOTE_RUN, "agent"), addresses=LOOPBACK
    )
    yield made
    made.close()


def test_an_exec_carries_a_session(agent: Agent, kubelet: FakeKubelet) -> None:
    assert agent.hello["name"] == "local"
    url = urlsplit(kubelet.asked[0])
    assert url.path == "/api/v1/namespaces/ns/pods/pod/exec"
    query = parse_qs(url.query)
    assert query["command"] == list(REMOTE_RUN)
    assert (query["container"], query["stdin"]) == (["agent"], ["true"])
    (seen,) = run(agent, [Probe(Protocol.TCP, ip_address("127.0.0.1"), 1)])
    assert seen.outcome is Outcome.REFUSED


@pytest.mark.parametrize("frame_size", [7, 65_536])
def test_lines_survive_however_they_are_cut(
    agent: Agent, kubelet: FakeKubelet, frame_size: int
) -> None:
    kubelet.frame_size = frame_size
    probes = [Probe(Protocol.TCP, ip_address("::1"), 1, timeout=5)] * 300
    assert {o.outcome for o in run(agent, probes)} == {Outcome.REFUSED}


def test_a_batch_larger_than_one_message_arrives(agent: Agent) -> None:
    text = "x" * 200_000
    assert agent.call_one("run", argv=["cat"], input=text)["stdout"] == text


def test_an_agent_that_is_killed_is_lost_with_the_kubelets_reason(
    agent: Agent, kubelet: FakeKubelet
) -> None:
    assert agent.hello["name"] == "local"
    with pytest.raises(Inconclusive, match="command terminated with exit code 137"):
        agent.call("run", argv=["kill", "-9", str(agent.hello["pid"])])
    assert agent.hello["name"] == "local"  # back again
    assert len(kubelet.asked) == 2


def test_a_connection_that_is_cut_is_a_loss(agent: Agent, kubelet: FakeKubelet) -> None:
    assert agent.hello["name"] == "local"
    cut = threading.Timer(0.2, lambda: kubelet.connections[0].shutdown(socket.SHUT_RDWR))
    cut.start()
    with pytest.raises(Inconclusive, match="was lost during sleep"):
        agent.call("sleep", 10, seconds=5)
    cut.join()


def test_a_program_that_does_not_exist_is_named(agent: Agent, kubelet: FakeKubelet) -> None:
    kubelet.argv = (sys.executable, "-c", "import sys; sys.exit('python3: not found')")
    with pytest.raises(Inconclusive, match="python3: not found"):
        agent.call("facts")


def test_a_refused_exec_is_a_loss(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    kube = Kube(kubeconfig(tmp_path, port))
    gone = Agent("gone", lambda: ExecTransport(kube, "ns", "p", REMOTE_RUN), addresses=LOOPBACK)
    with pytest.raises(Inconclusive, match="exec into ns/p could not be opened"):
        gone.call("facts")


def test_leaving_ends_the_remote_agent(agent: Agent, kubelet: FakeKubelet) -> None:
    """When the harness goes, however it goes, its agents end: their stdin does."""
    assert agent.hello["name"] == "local"
    agent.close()
    began = time.monotonic()
    kubelet.processes[0].wait(5)
    assert time.monotonic() - began < 2
