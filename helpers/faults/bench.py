"""The cluster as a fault sees it: its API, its nodes from inside, and who is worker A and B."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from helpers.agents import deploy
from helpers.calico import BlockAffinity
from helpers.kube import Kube, KubeError
from helpers.model import Family, IPNetwork
from helpers.naming import AGENT_NAMESPACE

if TYPE_CHECKING:
    from clusters.api import Cluster
    from helpers.views import NodeView, PodView

COMMAND_SECONDS: Final = 30.0


class FaultError(Exception):
    """A fault could not be planted or healed; nothing is known about the requirements."""


class CommandError(FaultError):
    """A command on a node ended with an error; the message has its output."""


@dataclass
class Bench:
    """One cluster of ours.

    Args:
        cluster: it must be owned: a fault is never planted in somebody else's.
        kube: access to its API.

    Raises:
        FaultError: the cluster is not ours.
    """

    cluster: Cluster
    kube: Kube

    def __post_init__(self) -> None:
        if not self.cluster.owned:
            raise FaultError(
                f"Cluster {self.cluster.name} is not ours: faults are planted only in clusters "
                "that this product made (leave out --cluster=existing)."
            )

    # -- nodes ------------------------------------------------------------------------------------

    @cached_property
    def nodes(self) -> list[NodeView]:
        """All nodes, by name. Taken once: their names do not change."""
        return sorted(self.kube.nodes(), key=lambda node: node.name)

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.nodes]

    @property
    def control_plane(self) -> str:
        return next(node.name for node in self.nodes if node.control_plane)

    @property
    def workers(self) -> list[str]:
        """Workers, those with a kernel of their own last: commands start slowly there."""
        names = [node.name for node in self.nodes if not node.control_plane]
        return sorted(names, key=lambda name: name not in self.containers)

    @property
    def worker(self) -> str:
        """Worker W of the catalogue."""
        return self.workers[0]

    @property
    def pair(self) -> tuple[str, str]:
        """Nodes A and B of the catalogue: two different ones, B is worker W.

        A is another worker where there is one. What is changed is changed at B, which is no
        control plane: cutting that off would cut off the harness as well.
        """
        others = [*self.workers[1:], self.control_plane]
        return others[0], self.worker

    def address(self, node: str, family: Family) -> str:
        """A node's InternalIP of a family.

        Raises:
            LookupError: it has none.
        """
        view = next(view for view in self.nodes if view.name == node)
        return str(view.internal_ips.require(family))

    def blocks(self, node: str, family: Family) -> list[IPNetwork]:
        """Calico's blocks of pod addresses that belong to a node."""
        found = map(BlockAffinity.from_api, self.kube.calico("BlockAffinity"))
        return [b.cidr for b in found if b.node == node and Family.of(b.cidr) is family]

    def pods(self, namespace: str, selector: str, node: str | None = None) -> list[PodView]:
        """Pods that are not being deleted, of one node when it is named."""
        found = self.kube.pods(namespace, selector)
        return [p for p in found if not p.deleting and node in (None, p.node)]

    def agent_pod(self, node: str, role: str = deploy.POD_AGENTS) -> PodView:
        """The agent in the pod network of a node.

        Raises:
            FaultError: there is none; run the suites once before.
        """
        found = self.pods(AGENT_NAMESPACE, f"{deploy.ROLE}={role}", node)
        if not found:
            raise FaultError(f"There is no {role} pod on {node}: run the suites once before.")
        return found[0]

    @property
    def has_agents(self) -> bool:
        """Whether agents of this version run on every node."""
        found = {
            (pod.labels.get(deploy.ROLE), pod.node)
            for pod in self.kube.pods(AGENT_NAMESPACE)
            if pod.ready
            and not pod.deleting
            and pod.annotations.get(deploy.VERSION) == deploy.agent_version()
        }
        return all((role, node) in found for role in deploy.ROLES for node in self.names)

    # -- commands ---------------------------------------------------------------------------------

    def run(
        self, node: str, *argv: str, check: bool = True, timeout: float = COMMAND_SECONDS
    ) -> str:
        """Run a command on a node as root, in the node's own namespaces; its standard output.

        Nodes that are containers are entered through their engine, so that healing does not depend
        on the network or on the kubelet; a node with a kernel of its own through its node agent.

        Raises:
            CommandError: it failed, or did not end in time. ``check=False``: it did not end.
        """
        if node in self.containers:
            return self._docker(node, argv, check=check, timeout=timeout)
        return self._through_agent(node, argv, check=check, timeout=timeout)

    def shell(self, node: str, script: str, *arguments: str, check: bool = True) -> str:
        """Run a script of ``sh`` on a node; ``$1`` and so on are the arguments."""
        return self.run(node, "sh", "-c", script, "sh", *arguments, check=check)

    @cached_property
    def containers(self) -> frozenset[str]:
        """Nodes that are containers of the engine; the others have a kernel of their own."""
        if not any(group.kernel.value == "guest" for group in self.cluster.spec.nodes):
            return frozenset(self.names)
        found = self._engine(["docker", "ps", "--format", "{{.Names}}"])
        return frozenset(found.stdout.split()) & frozenset(self.names)

    def _engine(
        self, argv: Sequence[str], timeout: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv,
                env={**os.environ, **self.cluster.engine},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                start_new_session=True,  # a Ctrl-C must not cut a change in the middle
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(argv)}: not done in {timeout:.0f} s") from error

    def _docker(self, node: str, argv: Sequence[str], *, check: bool, timeout: float) -> str:
        done = self._engine(["docker", "exec", node, *argv], timeout)
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise CommandError(f"{node}: {' '.join(argv)}: exit {done.returncode}: {said}")
        return done.stdout

    def _through_agent(self, node: str, argv: Sequence[str], *, check: bool, timeout: float) -> str:
        pod = self.agent_pod(node, deploy.NODE_AGENTS)
        command = ["chroot", deploy.HOST_ROOT, *argv]
        try:
            return self.kube.exec(AGENT_NAMESPACE, pod.name, command, "agent", timeout)
        except KubeError as error:
            if check:
                raise CommandError(f"{node}: {error}") from error
            return ""
