"""BIRD's sessions as data, and whether they are what Calico's routing needs (RTE-001).

Each family has a daemon of its own, ``bird`` and ``bird6``. The control socket tells the truth;
calico-node's readiness probe, as every manifest ships it, asks about IPv4 only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from helpers.calico import NodeNetwork
from helpers.findings import listed
from helpers.kube_errors import KubeError
from helpers.model import Family, IPAddress
from helpers.verdicts import Inconclusive
from helpers.views import NodeView

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.kube import Kube
    from helpers.platforms import CalicoNode

# /var/run is a link that does not lead out of the agent's own file system: /run is the directory.
SOCKETS: Final = {
    Family.IPV4: "/host/run/calico/bird.ctl",
    Family.IPV6: "/host/run/calico/bird6.ctl",
}
DAEMON: Final = {Family.IPV4: "BIRD", Family.IPV6: "BIRD6"}
READY_CHECK: Final = {Family.IPV4: "-bird-ready", Family.IPV6: "-bird6-ready"}
ESTABLISHED: Final = "Established"
_BEGIN: Final = re.compile(
    r"(?P<name>\S+)\s+BGP\s+\S+\s+(?P<state>\S+)\s+(?P<since>\S+)(?P<info>.*)"
)


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session. ``info`` is BIRD's word for its state, e.g. ``Established``."""

    name: str
    neighbour: IPAddress | None
    state: str  # of the protocol: up, start, down
    info: str  # e.g. "Established", "Connect Socket: Connection refused"
    since: str

    @property
    def established(self) -> bool:
        return self.state == "up" and self.info.split(" ")[0] == ESTABLISHED


def parse_sessions(lines: Iterable[str]) -> list[Session]:
    """BGP sessions in the reply to ``show protocols all`` (BIRD 1.6 and 2)."""
    found: list[Session] = []
    for line in lines:
        begin = _BEGIN.match(line)
        if begin:
            info = " ".join(begin["info"].split())
            found.append(Session(begin["name"], None, begin["state"], info, begin["since"]))
        elif line and not line[0].isspace():
            found.append(Session("", None, "", "", ""))  # another protocol: takes what follows
        elif found and line.strip().startswith("Neighbor address:"):
            last = found[-1]
            # A link-local neighbour is written with its interface: fe80::1%eth0.
            address = ip_address(line.split(":", 1)[1].strip().split("%")[0])
            found[-1] = Session(last.name, address, last.state, last.info, last.since)
    return [session for session in found if session.name]


def read_sessions(agent: Agent, family: Family) -> list[Session] | None:
    """Sessions of the family's BIRD on the agent's node; None when BIRD does not answer.

    Raises:
        Inconclusive: the agent was lost.
    """
    answer = agent.call_one("bird", socket=SOCKETS[family], command="show protocols all")
    return None if answer["error"] else parse_sessions(answer["lines"])


def readiness_refusal(kube: Kube, calico: CalicoNode, family: Family) -> str | None:
    """What calico-node's own check of the family's BIRD says against it, None when it passes.

    Raises:
        Inconclusive: the check could not be run.
    """
    check = READY_CHECK[family]
    try:
        kube.exec(calico.namespace, calico.pod, ["calico-node", check], "calico-node", timeout=30)
    except KubeError as error:
        said = str(error)
        if "ended with" not in said or "not found" in said:
            raise Inconclusive(f"calico-node {check} on {calico.node}: {said}") from error
        return f"calico-node {check} on {calico.node} fails: {said.rpartition('ended with ')[2]}"
    return None


def bgp_addresses(nodes: Iterable[NodeView], family: Family) -> dict[str, IPAddress | None]:
    """The address of each node that others peer with; None: Calico has none.

    Calico notes it on the nodes. Where no node has any such note (etcd datastore) the InternalIP
    has to do.
    """
    views = list(nodes)
    noted = {node.name: NodeNetwork.from_annotations(node.annotations) for node in views}
    if any(network.interfaces for network in noted.values()):
        return {name: network.address(family) for name, network in noted.items()}
    return {node.name: node.internal_ips.of(family) for node in views}


def mesh_enabled(bgp_configurations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every node peers with every other one (BGPConfiguration default; on by default)."""
    for configuration in bgp_configurations:
        if configuration["metadata"]["name"] == "default":
            return bool(configuration.get("spec", {}).get("nodeToNodeMeshEnabled", True))
    return True


def session_findings(
    family: Family,
    sessions: Mapping[str, list[Session] | None],
    addresses: Mapping[str, IPAddress | None],
    *,
    mesh: bool,
) -> list[str]:
    """RTE-001: an Established session of the family between all pairs of nodes.

    Args:
        sessions: by node; None where the family's BIRD does not answer.
        addresses: by node, where others peer with it.
        mesh: False when nodes peer with route reflectors: then every configured session counts,
            and each node needs one.

    Raises:
        Inconclusive: there is no other node to peer with.
    """
    if len(addresses) < 2:
        raise Inconclusive("one node has nobody to peer with")
    daemon = DAEMON[family]
    found = [
        f"Calico has no {family.kubernetes} address for node {node}: {daemon} has no session to "
        f"it and its {family.kubernetes} blocks are not routed; see CFG-012"
        for node in sessions
        if addresses.get(node) is None
    ]
    for node, mine in sessions.items():
        if addresses.get(node) is None:
            continue  # told above, once: it cannot have sessions
        if mine is None:
            found.append(
                f"{daemon} on {node} does not answer on its control socket: {family.kubernetes} "
                "routes of this node are not exchanged; see the log of calico-node there"
            )
        elif mesh:
            found += _mesh_findings(family, node, mine, addresses)
        else:
            found += _reflector_findings(family, node, mine)
    return found


def _mesh_findings(
    family: Family,
    node: str,
    sessions: Iterable[Session],
    addresses: Mapping[str, IPAddress | None],
) -> list[str]:
    by_address = {session.neighbour: session for session in sessions}
    daemon, found = DAEMON[family], []
    for peer, address in addresses.items():
        if peer == node or address is None:
            continue
        if address not in by_address:
            found.append(
                f"{daemon} on {node} has no session to {peer} ({address}), only to "
                f"{listed(s.neighbour for s in by_address.values())}: confd has not written it; "
                "see the log of calico-node there"
            )
        elif not by_address[address].established:
            found.append(_down(family, node, f"{peer} ({address})", by_address[address]))
    return found


def _reflector_findings(family: Family, node: str, sessions: list[Session]) -> list[str]:
    if not sessions:
        return [
            f"{DAEMON[family]} on {node} has no {family.kubernetes} session at all, although the "
            "node mesh is off: its BGPPeer needs a peerIP of this family"
        ]
    return [
        _down(family, node, str(session.neighbour), session)
        for session in sessions
        if not session.established
    ]


def _down(family: Family, node: str, peer: str, session: Session) -> str:
    return (
        f"{DAEMON[family]} on {node}: session to {peer} is not {ESTABLISHED} but "
        f"{session.state} {session.info} since {session.since}: look for what blocks TCP/179 over "
        f"{family.kubernetes} between them (calico-node's readiness probe checks IPv4 BGP only)"
    )
