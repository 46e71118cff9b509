"""Listeners of exactly one family, in pods that otherwise answer over both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from helpers.model import Family, Protocol
from helpers.parallel import on_each
from helpers.paths import FLOWS, Path, address
from helpers.plan import Kind, Step, plan
from helpers.probes import PATIENCE

if TYPE_CHECKING:
    from helpers.agents.client import Agent

# Family that is listened on -> its port: fixed, so that a fault can be planted beforehand.
PORTS: Final[Mapping[Family, int]] = {Family.IPV4: 8094, Family.IPV6: 8096}


@contextmanager
def listening(agents: Iterable[Agent], family: Family) -> Iterator[int]:
    """TCP and UDP echo on one more port, on sockets of one family; the port.

    Raises:
        AgentError: the port is taken.
    """
    with ExitStack() as stack:
        wanted = [(agent, protocol) for agent in agents for protocol in FLOWS]

        def listen(of: tuple[Agent, Protocol]) -> None:
            agent, protocol = of
            opened = agent.call_one(
                "listen", version=family.version, protocol=protocol.value, port=PORTS[family]
            )
            stack.callback(agent.call, "close", handle=opened["handle"])

        on_each(wanted, listen)
        yield PORTS[family]


def flows_to(
    paths: Iterable[Path],
    family: Family,
    port: int | None = None,
    *,
    patience: float = PATIENCE,
) -> list[Step]:
    """TCP and UDP along every path, to a port of the target or to its usual one.

    Args:
        patience: seconds that an answer may take.
    """
    return [
        step
        for path in paths
        for step in plan(
            {path.names[0]: path.source},
            {path.names[1]: address(path.target, family)},
            [Kind(each.value, each, port or path.target.port) for each in FLOWS],
            timeout=patience,
        )
    ]
