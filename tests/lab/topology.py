"""Two hosts and a router in network namespaces, both families, with agents on the hosts.

``a -- router -- b``: what the probes and the matrix say of it is known, so it proves them without
a cluster. Nothing leaves the namespaces.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from helpers.agents.archive import local_archive
from helpers.agents.client import Agent, Loss
from helpers.agents.transport import ProcessTransport
from helpers.model import DualAddresses, Protocol
from helpers.probes import Outcome, Probe, run
from helpers.waiting import eventually

PREFIX: Final = "dsc-lab"
PORT: Final = 8080
HOSTS: Final = {"a": 1, "b": 2}  # host -> number of its subnet


# The router answers too, under its own name: whoever is diverted to it meets a wrong peer.
ROUTER: Final = DualAddresses.parse(["10.0.2.1", "fd00:2::1"])


def host_addresses(host: str) -> DualAddresses:
    number = HOSTS[host]
    return DualAddresses.parse([f"10.0.{number}.2", f"fd00:{number}::2"])


@dataclass(frozen=True, slots=True)
class Lab:
    """Names of the namespaces, and the agents in them."""

    prefix: str
    agents: dict[str, Agent] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def namespace(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    @property
    def a(self) -> Agent:
        return self.agents["a"]

    @property
    def b(self) -> Agent:
        return self.agents["b"]

    def argv(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(host), sys.executable, *command]


def _ip(*arguments: str, commands: Sequence[str] = ()) -> None:
    text = "\n".join(commands).encode()
    subprocess.run(["ip", *arguments], input=text, check=True, timeout=20)


def _host_commands(host: str) -> list[str]:
    number = HOSTS[host]
    addresses = [f"10.0.{number}.2/24", f"fd00:{number}::2/64"]
    return [
        "link set lo up",
        "link set eth0 up",
        *(f"addr add {address} dev eth0 {_no_dad(address)}" for address in addresses),
        f"route add default via 10.0.{number}.1",
        f"route add default via fd00:{number}::1",
    ]


def _no_dad(address: str) -> str:
    return "nodad" if ":" in address else ""


def _router_commands() -> list[str]:
    commands = ["link set lo up"]
    for host, number in HOSTS.items():
        commands += [
            f"link set to-{host} up",
            f"addr add 10.0.{number}.1/24 dev to-{host}",
            f"addr add fd00:{number}::1/64 dev to-{host} nodad",
        ]
    return commands


def _build(lab: Lab) -> None:
    for name in (*HOSTS, "router"):
        _ip("netns", "add", lab.namespace(name))
    router = lab.namespace("router")
    links = [
        f"link add to-{host} netns {router} type veth peer name eth0 netns {lab.namespace(host)}"
        for host in HOSTS
    ]
    _ip("-batch", "-", commands=links)
    for host in HOSTS:
        _ip("-n", lab.namespace(host), "-batch", "-", commands=_host_commands(host))
    _ip("-n", router, "-batch", "-", commands=_router_commands())
    for sysctl in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        argv = ["ip", "netns", "exec", router, "tee", f"/proc/sys/net/{sysctl}"]
        subprocess.run(argv, input=b"1", stdout=subprocess.DEVNULL, check=True, timeout=10)


def _remove(lab: Lab) -> None:
    for name in (*HOSTS, "router"):
        _remove_namespace(lab.namespace(name))


def _remove_namespace(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


def _reap() -> None:
    """Remove labs whose process was killed, with the servers that still run in them."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        pid = path.name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if Path("/proc", pid).exists():
            continue
        listed = subprocess.run(
            ["ip", "netns", "pids", path.name], capture_output=True, check=False
        )
        for member in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(member), signal.SIGKILL)
        _remove_namespace(path.name)


@contextmanager
def _server(lab: Lab, host: str) -> Iterator[None]:
    port = str(PORT)
    program = [str(local_archive()), "serve", "--name", host]
    argv = lab.argv(host, *program, "--tcp", port, "--udp", port)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # "serving ...": all sockets are bound
        yield
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def lab_running() -> Iterator[Lab]:
    """The lab, with an echo server and an agent on both hosts; removed in any case."""
    _reap()
    lab = Lab(f"{PREFIX}-{os.getpid()}")
    with ExitStack() as stack:
        stack.callback(_remove, lab)
        _build(lab)
        for name in (*HOSTS, "router"):
            stack.enter_context(_server(lab, name))
        for host in HOSTS:
            argv = lab.argv(host, "-u", str(local_archive()), "run", "--name", host)
            agent = Agent(
                host,
                lambda argv=argv: ProcessTransport(argv),  # type: ignore[misc]
                addresses=host_addresses(host),
                port=PORT,
                on_loss=lab.losses.append,
            )
            lab.agents[host] = agent
            stack.callback(agent.close)
        _settle(lab)
        yield lab


def _settle(lab: Lab) -> None:
    """Until both families work once: fresh veths drop the first packets."""
    pings = [Probe(Protocol.ICMP, target, timeout=0.5) for target in host_addresses("b").all]
    eventually(
        lambda: run(lab.a, pings),
        lambda seen: all(o.outcome is Outcome.REACHED for o in seen),
        within=10,
        every=0.1,
        what="the lab's own paths work",
    )
