"""Two nodes and three pods in network namespaces, both families, as Calico wires them.

::

    p1 --cali1-- n1 --fabric-- n2 --cali2-- p2
    p3 --cali3-- n1

Pods have addresses of one (/32, /128) and Calico's gateways (169.254.1.1; the link-local address of
the host's end, MAC ee:ee:ee:ee:ee:ee); nodes route blocks natively, drop packets of a pod with a
source that is not its own, and drop what connection tracking calls INVALID. What probes and packets
must see there is known, so the lab proves them without a cluster. Nothing leaves the namespaces.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from helpers.agents.archive import local_archive
from helpers.agents.client import Agent, Loss
from helpers.agents.transport import ProcessTransport
from helpers.model import FAMILIES, DualAddresses, Family, Protocol
from helpers.probes import Outcome, Probe, run
from helpers.waiting import eventually
from tests.lab import nft

PREFIX: Final = "dsc-lab"
PORT: Final = 8080
FABRIC: Final = "fabric"
HOST_MAC: Final = "ee:ee:ee:ee:ee:ee"
GATEWAY4: Final = "169.254.1.1"
GATEWAY6: Final = "fe80::ecee:eeff:feee:eeee"
NODE_TABLE: Final = "calico"


@dataclass(frozen=True, slots=True)
class Node:
    """A node: the addresses on the fabric, and the blocks whose addresses its pods have."""

    name: str
    number: int

    @property
    def addresses(self) -> DualAddresses:
        return DualAddresses.parse([f"172.30.0.{self.number}", f"fd00:172:30::{self.number}"])

    @property
    def blocks(self) -> tuple[str, str]:
        return f"10.244.{self.number}.0/26", f"fd00:10:244:{self.number}::/122"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod and the node that it is on."""

    name: str
    number: int
    node: Node

    @property
    def addresses(self) -> DualAddresses:
        block = f"{self.node.number}"
        return DualAddresses.parse(
            [f"10.244.{block}.{self.number}", f"fd00:10:244:{block}::{self.number}"]
        )

    @property
    def interface(self) -> str:
        """Its veth on the node."""
        return f"cali{self.number}"


NODES: Final[Mapping[str, Node]] = MappingProxyType({f"n{n}": Node(f"n{n}", n) for n in (1, 2)})
PODS: Final[Mapping[str, Pod]] = MappingProxyType(
    {f"p{n}": Pod(f"p{n}", n, NODES[node]) for n, node in ((1, "n1"), (2, "n2"), (3, "n1"))}
)
HOSTS: Final = (*PODS, *NODES)


def host_addresses(host: str) -> DualAddresses:
    """Addresses of a pod or node."""
    return (PODS[host] if host in PODS else NODES[host]).addresses


@dataclass(frozen=True, slots=True)
class Lab:
    """Names of the namespaces, and the agents in them: pods run the echo server too."""

    prefix: str
    agents: dict[str, Agent] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def namespace(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    @property
    def p1(self) -> Agent:
        """On n1."""
        return self.agents["p1"]

    @property
    def p2(self) -> Agent:
        """On n2."""
        return self.agents["p2"]

    @property
    def p3(self) -> Agent:
        """On n1, beside p1."""
        return self.agents["p3"]

    def argv(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(host), sys.executable, *command]

    def ip(self, host: str, *arguments: str) -> None:
        """``ip`` in a namespace, e.g. for a fault in routes or links."""
        _ip("-n", self.namespace(host), *arguments)

    def sysctl(self, host: str, name: str, value: str) -> None:
        """Set ``net.NAME`` in a namespace; ``name`` has slashes, e.g. ``ipv6/conf/all/...``."""
        nft.inside(
            self.namespace(host), lambda: Path("/proc/sys/net", name).write_text(value, "ascii")
        )


def _ip(*arguments: str, commands: Sequence[str] = ()) -> None:
    text = "\n".join(commands).encode()
    subprocess.run(["ip", *arguments], input=text, check=True, timeout=20)


def _links(lab: Lab) -> list[str]:
    ends = {name: lab.namespace(name) for name in HOSTS}
    fabric = f"link add {FABRIC} netns {ends['n1']} type veth peer name {FABRIC}"
    return [f"{fabric} netns {ends['n2']}"] + [
        f"link add {pod.interface} address {HOST_MAC} netns {ends[pod.node.name]} "
        f"type veth peer name eth0 netns {ends[pod.name]}"
        for pod in PODS.values()
    ]


def _pod_commands(pod: Pod) -> list[str]:
    v4, v6 = pod.addresses.all
    return [
        "link set lo up",
        "link set eth0 up",
        f"addr add {v4}/32 dev eth0",
        f"addr add {v6}/128 dev eth0 nodad",
        f"route add {GATEWAY4} dev eth0 scope link",
        f"route add default via {GATEWAY4} dev eth0",
        f"route add default via {GATEWAY6} dev eth0",
    ]


def _node_commands(node: Node) -> list[str]:
    v4, v6 = node.addresses.all
    (other,) = (n for n in NODES.values() if n is not node)
    commands = [
        "link set lo up",
        f"link set {FABRIC} up",
        f"addr add {v4}/24 dev {FABRIC}",
        f"addr add {v6}/64 dev {FABRIC} nodad",
        # Proxy ARP answers only for what is routed to another interface.
        f"route add {GATEWAY4} dev {FABRIC}",
    ]
    commands += [f"route add blackhole {block}" for block in node.blocks]
    commands += [
        f"route add {block} via {via}"
        for block, via in zip(other.blocks, other.addresses.all, strict=True)
    ]
    for pod in PODS.values():
        if pod.node is not node:
            continue
        commands.append(f"link set {pod.interface} up")
        commands += [f"route add {address} dev {pod.interface}" for address in pod.addresses.all]
    return commands


def _before_links(lab: Lab, host: str) -> None:
    """Settings that interfaces take over when they are made."""
    # Duplicate address detection would make link-local addresses wait for a second or two.
    lab.sysctl(host, "ipv6/conf/default/accept_dad", "0")
    if host in NODES:
        lab.sysctl(host, "ipv4/ip_forward", "1")
        lab.sysctl(host, "ipv6/conf/all/forwarding", "1")


def node_rules(lab: Lab, node: str, family: Family) -> None:
    """What Felix programs against spoofed sources and INVALID packets (rules/static.go)."""
    spoofed = [*nft.coming_from("cali*"), *nft.without_way_back(), *nft.drop()]
    broken = [*nft.invalid(), *nft.drop()]
    chains = [(nft.Chain("prerouting", -300), [spoofed]), (nft.Chain(), [broken])]
    nft.add_table(lab.namespace(node), family, NODE_TABLE, chains)


def _build(lab: Lab) -> None:
    for name in HOSTS:
        _ip("netns", "add", lab.namespace(name))
        _before_links(lab, name)
    _ip("-batch", "-", commands=_links(lab))
    for node in NODES.values():
        _ip("-n", lab.namespace(node.name), "-batch", "-", commands=_node_commands(node))
        for family in FAMILIES:
            node_rules(lab, node.name, family)
    for pod in PODS.values():
        _ip("-n", lab.namespace(pod.name), "-batch", "-", commands=_pod_commands(pod))
        lab.sysctl(pod.node.name, f"ipv4/conf/{pod.interface}/proxy_arp", "1")
        # Proxy ARP waits for up to 0.8 s before it answers, unless told not to.
        lab.sysctl(pod.node.name, f"ipv4/neigh/{pod.interface}/proxy_delay", "0")
        lab.sysctl(pod.node.name, f"ipv6/conf/{pod.interface}/accept_ra", "0")


def _remove(lab: Lab) -> None:
    for name in HOSTS:
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
def _servers(lab: Lab) -> Iterator[None]:
    """Echo servers in all pods, started at once."""
    port = str(PORT)
    with ExitStack() as stack:
        started = []
        for name in PODS:
            program = [str(local_archive()), "serve", "--name", name]
            argv = lab.argv(name, *program, "--tcp", port, "--udp", port)
            process = subprocess.Popen(argv, stdout=subprocess.PIPE)
            stack.callback(_stop, process)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # "serving ...": all sockets are bound
        yield


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def lab_running() -> Iterator[Lab]:
    """The lab, with echo servers in the pods and an agent everywhere; removed in any case.

    Agents are started when they are first asked.
    """
    _reap()
    lab = Lab(f"{PREFIX}-{os.getpid()}")
    with ExitStack() as stack:
        stack.callback(_remove, lab)
        _build(lab)
        stack.enter_context(_servers(lab))
        for host in HOSTS:
            argv = lab.argv(host, "-u", str(local_archive()), "run", "--name", host)
            agent = Agent(
                host,
                lambda argv=argv: ProcessTransport(argv),  # type: ignore[misc]
                addresses=host_addresses(host),
                port=PORT,
                on_loss=lab.losses.append,
                node=PODS[host].node.name if host in PODS else host,
            )
            lab.agents[host] = agent
            stack.callback(agent.close)
        _settle(lab)
        yield lab


def _settle(lab: Lab) -> None:
    """Until both families work once: fresh veths drop the first packets."""
    for source, target in (("p1", "p2"), ("p3", "p2")):
        pings = [Probe(Protocol.ICMP, a, timeout=0.5) for a in host_addresses(target).all]
        agent = lab.agents[source]
        eventually(
            lambda agent=agent, pings=pings: run(agent, pings),  # type: ignore[misc]
            lambda seen: all(o.outcome is Outcome.REACHED for o in seen),
            within=10,
            every=0.1,
            what="the lab's own paths work",
        )
