"""What the suites know of a cluster: frozen data with a JSON round trip, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from clusters.spec import ClusterSpec
from helpers.model import DualAddresses

Progress = Callable[[str], None]  # one line of what is being done or waited for

SCHEMA = 1  # of the JSON form; a record of another schema is not read


@dataclass(frozen=True, slots=True)
class Outside:
    """The host outside of the cluster.

    Attributes:
        container: its Docker container.
        docker: argv prefix that reaches its engine, e.g. ``("docker",)``.
        addresses: on the network of the nodes (their next hop to the outside).
        internet: documentation-prefix addresses that tests talk to.
    """

    container: str
    docker: tuple[str, ...]
    addresses: DualAddresses
    internet: DualAddresses

    def to_json(self) -> dict[str, Any]:
        return {
            "container": self.container,
            "docker": list(self.docker),
            "addresses": [str(address) for address in self.addresses.all],
            "internet": [str(address) for address in self.internet.all],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outside:
        return cls(
            container=data["container"],
            docker=tuple(data["docker"]),
            addresses=DualAddresses.parse(data["addresses"]),
            internet=DualAddresses.parse(data["internet"]),
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answers.

    Attributes:
        spec: what it was declared to be (for an existing cluster: what its user declares).
        owned: we made it, so we may disrupt and destroy it.
        state: directory shared by all workers of the run (facts, locks, gates).
        engine: environment for ``docker exec`` on nodes; empty for an existing cluster.
    """

    name: str
    kubeconfig: Path
    context: str | None
    spec: ClusterSpec
    owned: bool
    agent_image: str
    agent_image_pull_policy: str
    outside: Outside | None
    state: Path
    engine: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; ``from_json`` reads it back to an equal value."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "kubeconfig": str(self.kubeconfig),
            "context": self.context,
            "spec": self.spec.model_dump(mode="json"),
            "owned": self.owned,
            "agent_image": self.agent_image,
            "agent_image_pull_policy": self.agent_image_pull_policy,
            "outside": self.outside.to_json() if self.outside else None,
            "state": str(self.state),
            "engine": dict(self.engine),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cluster:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: another schema, or a spec that is no longer valid.
            KeyError: a field is missing.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(
                f"cluster record of schema {data.get('schema')!r}, this version reads {SCHEMA}; "
                "delete the cluster with the version that made it"
            )
        return cls(
            name=data["name"],
            kubeconfig=Path(data["kubeconfig"]),
            context=data["context"],
            spec=ClusterSpec.model_validate(data["spec"]),
            owned=data["owned"],
            agent_image=data["agent_image"],
            agent_image_pull_policy=data["agent_image_pull_policy"],
            outside=Outside.from_json(data["outside"]) if data["outside"] else None,
            state=Path(data["state"]),
            engine=dict(data["engine"]),
        )


class ClusterProvider(Protocol):
    """A way to have clusters; the registry calls it, in whichever process asks first.

    What it makes must carry the name of the cluster: it is removed by name and ``engine``, by
    another process when need be (``clusters.registry.removers``).
    """

    @property
    def kind(self) -> str:
        """Name of the provider in records."""

    @property
    def engine(self) -> Mapping[str, Any]:
        """What its removal needs to know, as plain data for the record."""

    def create(self, name: str, spec: ClusterSpec, folder: Path, progress: Progress) -> Cluster:
        """Have a cluster that answers.

        Args:
            folder: of the cluster's record; for kubeconfig and log.

        Raises:
            ClusterError: it cannot be had; what was made so far may be left.
        """
