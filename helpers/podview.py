"""What a pod is told of its own addresses: the downward API and /etc/hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from helpers.findings import listed
from helpers.model import DualAddresses, IPAddress
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent


@dataclass(frozen=True, slots=True)
class Told:
    """Addresses as a pod finds them.

    Attributes:
        pod_ip: environment, from ``status.podIP``.
        pod_ips: environment, from ``status.podIPs``.
        hosts: addresses of the pod's own name in /etc/hosts, in order.
    """

    pod_ip: tuple[IPAddress, ...]
    pod_ips: tuple[IPAddress, ...]
    hosts: tuple[IPAddress, ...]

    @classmethod
    def parse(cls, environment: Mapping[str, str], hosts: str, hostname: str) -> Told:
        """From the text of the environment and of /etc/hosts."""
        return cls(
            _addresses(environment.get("POD_IP", "")),
            _addresses(environment.get("POD_IPS", "")),
            tuple(
                ip_address(words[0])
                for line in hosts.splitlines()
                if hostname in (words := line.partition("#")[0].split())[1:]
            ),
        )


def _addresses(text: str) -> tuple[IPAddress, ...]:
    return tuple(ip_address(part) for part in text.split(",") if part)


def inside(agent: Agent) -> Told:
    """Read what the agent's pod was told (its container has POD_IP and POD_IPS).

    Raises:
        Inconclusive: it cannot be read.
    """
    printed = agent.call_one("run", argv=["env", "-0"])
    hosts = agent.call_one("read_file", path="/etc/hosts")
    if printed["rc"] != 0 or hosts["error"]:
        raise Inconclusive(f"{agent.name}: {printed['stderr'] or hosts['error']}")
    lines = [line.partition("=") for line in printed["stdout"].split("\0")]
    environment = {name: value for name, _, value in lines}
    return Told.parse(environment, hosts["text"], agent.hello["hostname"])


def identity_findings(where: str, told: Told, api: DualAddresses) -> list[str]:
    """PODIP-008: environment and /etc/hosts list the pod's addresses in the API's order."""
    expected = {
        "status.podIP in the environment": (told.pod_ip, api.all[:1]),
        "status.podIPs in the environment": (told.pod_ips, api.all),
        "/etc/hosts for the pod's own name": (told.hosts, api.all),
    }
    return [
        f"{where}: {what} is {listed(seen)}, but the API's podIPs are {listed(api.all)}; if "
        "/etc/hosts differs, look for a volume mounted over it, else at the node's kubelet"
        for what, (seen, wanted) in expected.items()
        if seen != tuple(wanted)
    ]
