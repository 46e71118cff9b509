"""What the agent's operations answer, against servers and files of which everything is known."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from helpers.agents.archive import local_archive
from helpers.agents.client import Agent
from helpers.model import FAMILIES, Family, IPAddress, Protocol
from helpers.oneway import one_way
from helpers.probes import Outcome, Probe, dns, run, tcp_bulk
from helpers.waiting import eventually

LOOPBACK_OF: dict[Family, IPAddress] = {
    Family.IPV4: ip_address("127.0.0.1"),
    Family.IPV6: ip_address("::1"),
}
SOCKETS = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


@contextmanager
def server(family: Family, kind: int, answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one exchange; ``answer`` gets the listening or datagram socket."""
    with socket.socket(SOCKETS[family], kind) as sock:
        sock.settimeout(5)
        sock.bind((str(LOOPBACK_OF[family]), 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        thread = threading.Thread(target=answer, args=(sock,))
        thread.start()
        yield sock.getsockname()[1]
        thread.join(5)


# -- probes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_probe_says_what_both_ends_saw(agent: Agent, echo_port: int, family: Family) -> None:
    address = LOOPBACK_OF[family]
    source_port = 50_000 + os.getpid() % 1000
    probe = Probe(Protocol.TCP, address, echo_port, source_port=source_port)
    (seen,) = run(agent, [probe])
    assert seen.outcome is Outcome.REACHED
    assert (seen.peer_seen, seen.peer_port_seen) == (address, source_port)
    assert seen.server == "local"
    assert 0 < seen.milliseconds < 2000


def test_results_keep_the_order_of_the_probes(agent: Agent, echo_port: int) -> None:
    silent = agent.call_one("udp_listen", version=6)
    probes = [
        Probe(Protocol.UDP, IPv6Address("::1"), silent["port"], timeout=0.3),
        Probe(Protocol.TCP, IPv6Address("::1"), echo_port),
        Probe(Protocol.TCP, IPv6Address("::1"), 1),
    ]
    seen = run(agent, probes)
    agent.call("close", handle=silent["handle"])
    assert [o.outcome for o in seen] == [Outcome.TIMEOUT, Outcome.REACHED, Outcome.REFUSED]
    assert [o.probe for o in seen] == probes


def test_an_address_in_use_is_the_probes_trouble(agent: Agent, echo_port: int) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        probe = Probe(
            Protocol.TCP, IPv6Address("::1"), echo_port, source=IPv6Address("::1"), source_port=port
        )
        (seen,) = run(agent, [probe])
    assert seen.outcome is Outcome.INCONCLUSIVE
    assert "EADDRINUSE" in str(seen.error)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_that_is_not_ours_is_a_wrong_peer(agent: Agent, family: Family) -> None:
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-something\r\n")
            connection.recv(100)

    with server(family, socket.SOCK_STREAM, greet) as port:
        (seen,) = run(agent, [Probe(Protocol.TCP, LOOPBACK_OF[family], port)])
    assert seen.outcome is Outcome.WRONG_PEER
    assert "SSH-2.0" in str(seen.error)


def test_a_server_that_changes_the_payload_is_a_wrong_peer(agent: Agent) -> None:
    def corrupt(sock: socket.socket) -> None:
        data, peer = sock.recvfrom(2000)
        line = b'{"server":"x","node":"","peer":"::1","peer_port":1,"local":"::1"}\n'
        sock.sendto(line + data.partition(b"\n")[2][:-1] + b"?", peer)

    with server(Family.IPV6, socket.SOCK_DGRAM, corrupt) as port:
        (seen,) = run(agent, [Probe(Protocol.UDP, IPv6Address("::1"), port)])
    assert seen.outcome is Outcome.WRONG_PEER
    assert "came back as other" in str(seen.error)


def test_a_server_that_hangs_up_is_refused_and_one_that_is_silent_a_timeout(agent: Agent) -> None:
    def hang_up(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with server(Family.IPV6, socket.SOCK_STREAM, hang_up) as port:
        (seen,) = run(agent, [Probe(Protocol.TCP, IPv6Address("::1"), port)])
    assert seen.outcome is Outcome.REFUSED

    def stay_silent(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(5)
        # The agent ends a probe with a reset.
        with connection, contextlib.suppress(ConnectionResetError):
            while connection.recv(1000):
                pass

    with server(Family.IPV6, socket.SOCK_STREAM, stay_silent) as port:
        (seen,) = run(agent, [Probe(Protocol.TCP, IPv6Address("::1"), port, timeout=0.2)])
    assert seen.outcome is Outcome.TIMEOUT
    assert "after connect" in str(seen.error)


def test_connect_only_needs_no_echo_server(agent: Agent) -> None:
    with server(Family.IPV4, socket.SOCK_STREAM, lambda sock: None) as port:
        probe = Probe(Protocol.TCP, LOOPBACK_OF[Family.IPV4], port, connect_only=True)
        assert run(agent, [probe])[0].outcome is Outcome.REACHED


def test_a_probe_with_a_port_that_its_protocol_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="a port belongs to"):
        Probe(Protocol.ICMP, IPv6Address("::1"), 80)
    with pytest.raises(ValueError, match="a port belongs to"):
        Probe(Protocol.TCP, IPv6Address("::1"))


@pytest.mark.parametrize("family", FAMILIES)
def test_hundreds_of_pings_do_not_lose_each_other(agent: Agent, family: Family) -> None:
    probes = [Probe(Protocol.ICMP, LOOPBACK_OF[family])] * 500
    assert {o.outcome for o in run(agent, probes)} == {Outcome.REACHED}


def test_a_transfer_to_a_closed_port_is_refused(agent: Agent) -> None:
    moved = tcp_bulk(agent, IPv6Address("::1"), 1, 1000)
    assert moved.outcome is Outcome.REFUSED


@pytest.mark.parametrize("family", FAMILIES)
def test_one_way_flows_count_what_arrived(agent: Agent, family: Family) -> None:
    flow = one_way(agent, agent, family, count=10, interval=0)
    assert flow.received == tuple(range(10))
    assert flow.sources == {LOOPBACK_OF[family]}
    assert (flow.lost, flow.duplicated) == ((), ())
    assert str(flow) == "10/10 datagrams arrived"


# -- serve ----------------------------------------------------------------------------------------


def test_serve_ends_at_once_when_told_to(serving: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    serving.send_signal(signal.SIGTERM)
    serving.wait(5)
    assert time.monotonic() - began < 1


def test_serve_takes_no_v4_peers_on_its_v6_socket(tmp_path: Path) -> None:
    """Two sockets per port: a mapped address would make a v4 peer look like a v6 one."""
    ready = tmp_path / "ready"
    argv = [sys.executable, str(local_archive()), "serve", "--tcp", "0", "--family", "6"]
    process = subprocess.Popen([*argv, "--ready-file", str(ready)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        listed = Path(f"/proc/{process.pid}/net/tcp6").read_text()
        inodes = {
            link.readlink().name.strip("socket:[]")
            for link in Path(f"/proc/{process.pid}/fd").iterdir()
            if str(link.readlink()).startswith("socket:")
        }
        line = next(row for row in listed.splitlines()[1:] if row.split()[9] in inodes)
        port = int(line.split()[1].rsplit(":", 1)[1], 16)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)
        socket.create_connection(("::1", port), 1).close()
        # It is written after the line that was read above.
        eventually(
            lambda: ready.read_text() if ready.exists() else "",
            lambda text: text == str(process.pid),
            within=10,
            every=0.05,
        )
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


# -- DNS ------------------------------------------------------------------------------------------


def dns_server(sock: socket.socket) -> None:
    """Answers one question: AAAA by a compressed name behind a CNAME; others NXDOMAIN."""
    stream = sock.type == socket.SOCK_STREAM
    if stream:
        connection, _ = sock.accept()
        with connection:
            length = struct.unpack("!H", connection.recv(2))[0]
            reply = dns_reply(connection.recv(length))
            connection.sendall(struct.pack("!H", len(reply)) + reply)
        return
    query, peer = sock.recvfrom(2000)
    sock.sendto(dns_reply(query), peer)


def dns_reply(query: bytes) -> bytes:
    question = query[12:]
    kind = struct.unpack("!H", question[-4:-2])[0]
    if kind != 28:
        return query[:2] + struct.pack("!5H", 0x8183, 1, 0, 0, 0) + question
    alias = b"\x05alias\xc0\x0c"  # alias.<the question's name>
    cname = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 30, len(alias)) + alias
    address = ip_address("2001:db8::53").packed
    record = alias + struct.pack("!HHIH", 28, 1, 30, 16) + address
    return query[:2] + struct.pack("!5H", 0x8180, 1, 2, 0, 0) + question + cname + record


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("transport", [Protocol.UDP, Protocol.TCP])
def test_dns_over_both_families_and_transports(
    agent: Agent, family: Family, transport: Protocol
) -> None:
    kind = socket.SOCK_STREAM if transport is Protocol.TCP else socket.SOCK_DGRAM
    where = LOOPBACK_OF[family]
    with server(family, kind, dns_server) as port:
        (answer,) = dns(agent, ["web.example."], "AAAA", where, transport, port=port)
    assert (answer.outcome, answer.rcode) == (Outcome.REACHED, "NOERROR")
    assert answer.addresses == (ip_address("2001:db8::53"),)
    with server(family, kind, dns_server) as port:
        (answer,) = dns(agent, ["web.example."], "A", where, transport, port=port)
    assert (answer.rcode, answer.addresses) == ("NXDOMAIN", ())


def test_a_dns_server_that_is_not_there_or_talks_nonsense(agent: Agent) -> None:
    (answer,) = dns(agent, ["a."], "A", LOOPBACK_OF[Family.IPV6], port=1)
    assert answer.outcome is Outcome.REFUSED

    def nonsense(sock: socket.socket) -> None:
        query, peer = sock.recvfrom(2000)
        sock.sendto(query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + query[12:] + b"\xc0", peer)

    with server(Family.IPV6, socket.SOCK_DGRAM, nonsense) as port:
        (answer,) = dns(agent, ["a."], "A", LOOPBACK_OF[Family.IPV6], port=port)
    assert answer.outcome is Outcome.WRONG_PEER
    assert "not a DNS answer" in str(answer.error)


# -- the host -------------------------------------------------------------------------------------

BIRD_TALK = {
    b"show protocols\n": b"2002-name     proto    state\n1002-Mesh_a   BGP   up   Established\n"
    b" Node_b   BGP   up   Idle\n0000 \n",
    b"nonsense\n": b"9001 syntax error\n",
}


@pytest.fixture
def bird_socket(tmp_path: Path) -> Iterator[Path]:
    """What a BIRD control socket says to two commands."""
    path = tmp_path / "bird6.ctl"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"0001 BIRD 1.6.8 ready.\n")
                connection.sendall(BIRD_TALK[connection.recv(100)])

        thread = threading.Thread(target=talk)
        thread.start()
        yield path
        thread.join(5)


def test_bird_is_asked_over_its_own_socket(agent: Agent, bird_socket: Path) -> None:
    result = agent.call_one("bird", socket=str(bird_socket), command="show protocols")
    assert result["error"] is None
    assert result["lines"][1:] == ["Mesh_a   BGP   up   Established", "Node_b   BGP   up   Idle"]


def test_bird_errors_are_told(agent: Agent, bird_socket: Path) -> None:
    result = agent.call_one("bird", socket=str(bird_socket), command="nonsense")
    assert result["error"] == "syntax error"
    gone = agent.call_one("bird", socket="/nonexistent/bird.ctl", command="show status")
    assert "No such file" in gone["error"]


def test_commands_have_a_result_whatever_happens(agent: Agent) -> None:
    assert agent.call_one("run", argv=["sh", "-c", "echo out; echo err >&2; exit 3"]) == {
        "rc": 3,
        "stdout": "out\n",
        "stderr": "err\n",
    }
    assert agent.call_one("run", argv=["/nonexistent"])["rc"] == 127
    assert agent.call_one("run", argv=["sleep", "9"], timeout=0.1)["rc"] is None
    assert agent.call_one("run", argv=["cat"], input="fed")["stdout"] == "fed"


def test_files_and_sysctls(agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    assert agent.call_one("read_file", path=str(file)) == {"text": "text", "error": None}
    assert "No such file" in agent.call_one("read_file", path="/nonexistent")["error"]
    read = agent.call_one("sysctl", name="net.ipv6.conf.lo.mtu")
    assert int(read["value"]) >= 1280
    assert agent.call_one("sysctl", name="net.no.such")["value"] is None


def test_http_get_tells_status_body_or_error(agent: Agent) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nipvs")

    with server(Family.IPV6, socket.SOCK_STREAM, serve) as port:
        answer = agent.call_one("http_get", url=f"http://[::1]:{port}/proxyMode")
    assert (answer["status"], answer["body"]) == (200, "ipvs")
    refused = agent.call_one("http_get", url="http://[::1]:1/")
    assert (refused["status"], refused["body"]) == (None, "")
    assert "ConnectionRefused" in refused["error"]


def test_processes_are_stopped_and_continued_by_name(agent: Agent, tmp_path: Path) -> None:
    name = f"dsc-sleeper-{os.getpid()}"
    program = tmp_path / name
    program.symlink_to(sys.executable)
    child = subprocess.Popen([str(program), "-S", "-c", "import time; time.sleep(60)"])
    try:
        (listed,) = wait_for_process(agent, name)
        assert listed["pid"] == child.pid
        (stopped,) = agent.call("signal_process", name=name, signal="STOP")
        assert (stopped["pid"], stopped["error"]) == (child.pid, None)
        assert os.waitpid(child.pid, os.WUNTRACED)[1] == 0x137F  # stopped by SIGSTOP
        agent.call("signal_process", name=name, contains="time.sleep", signal="CONT")
        assert agent.call("processes", name=name, contains="other") == []
    finally:
        child.kill()
        child.wait()


def wait_for_process(agent: Agent, name: str) -> list[dict[str, object]]:
    deadline = time.monotonic() + 5
    while not (found := agent.call("processes", name=name)):
        assert time.monotonic() < deadline
    return found


def test_facts_name_the_interfaces_of_both_families(agent: Agent) -> None:
    facts = agent.call_one("facts")
    assert facts["error"] is None
    addresses = {a["local"] for link in facts["addresses"] for a in link["addr_info"]}
    assert {"127.0.0.1", "::1"} <= addresses
