"""Driving an agent: requests out, results in, and what it means when the agent is lost.

A lost agent is no verdict about the network: whatever it was asked is inconclusive. It is
connected again at the next request, and each loss is reported. Two losses with no answer between
them end it for the rest of the run.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from helpers.agents.transport import Connect, StreamLostError, Transport
from helpers.model import DualAddresses
from helpers.verdicts import Inconclusive
from helpers.waiting import Deadline

PROTOCOL: Final = 1
HELLO_SECONDS: Final = 30.0  # a Python start on a node with a guest kernel takes some
MARGIN_SECONDS: Final = 5.0  # for the way there and back, on top of the agent's own deadline
LOSSES_IN_A_ROW: Final = 2
DEFAULT_DEADLINE: Final = 30.0

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Loss:
    """An agent that was lost, and during what."""

    agent: str
    op: str
    reason: str


class AgentError(Inconclusive):
    """The agent answered a request with an error of its own (its traceback is in the notes)."""


class Agent:
    """One place to observe from. Connected at the first request; safe to share between threads.

    Attributes:
        name: for messages, e.g. ``pod agent on worker2``.
        node: node that it runs on, None outside of the cluster.
        addresses: where others reach its echo server.
        port: TCP and UDP port of its echo server.
        guests: the node agents of the cluster's nodes with a guest kernel.
        typed: see the property; ``{pod}`` stands for the agent's pod.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        addresses: DualAddresses,
        node: str | None = None,
        port: int = 8080,
        identity: str | None = None,
        guests: Sequence[Agent] = (),
        on_loss: Callable[[Loss], None] | None = None,
        typed: str = "",
    ) -> None:
        self.name = name
        self._typed = typed
        self.node = node
        self.addresses = addresses
        self.port = port
        self.guests = guests
        self._identity = identity
        self._connect = connect
        self._on_loss = on_loss or (lambda _: None)
        self._lock = threading.RLock()
        self._transport: Transport | None = None
        self._hello: Result = {}
        self._ids = itertools.count(1)
        self._losses: list[Loss] = []  # since the last answer

    def __repr__(self) -> str:
        return f"<Agent {self.name}>"

    # -- who it is ----------------------------------------------------------------------------

    @property
    def hello(self) -> Result:
        """What the agent said of itself (connects): hostname, pid, python, capabilities."""
        with self._lock:
            self._connected("hello")
            return dict(self._hello)

    @property
    def identity(self) -> str:
        """Name that its echo server gives to its peers."""
        if self._identity is None:
            self._identity = str(self.hello["name"])
        return self._identity

    @property
    def typed(self) -> str:
        """What a person types in front of a command to run it where the agent is."""
        return self._typed.format(pod=self.identity) if self._typed else ""

    def moved(self, identity: str, addresses: DualAddresses) -> None:
        """The agent's pod was replaced: it answers by another name and from other addresses."""
        self._identity = identity
        self.addresses = addresses

    def require(self, *capabilities: str) -> None:
        """Demand capabilities: ipv4, ipv6, ping4, ping6, raw4, raw6, packet, sctp, net_admin.

        Raises:
            Inconclusive: the agent lacks one of them.
        """
        has = self.hello["capabilities"]
        missing = [name for name in capabilities if not has.get(name)]
        if missing:
            raise Inconclusive(
                f"{self.name} may not use {', '.join(missing)}: give its pod NET_RAW and "
                f"NET_ADMIN (namespace label pod-security.kubernetes.io/enforce=privileged)"
            )

    # -- requests -----------------------------------------------------------------------------

    def call(self, op: str, deadline: float = DEFAULT_DEADLINE, **args: Any) -> list[Result]:
        """Run one operation of the agent and return its results in order.

        Args:
            deadline: seconds that the agent may take.
            args: arguments of the operation; see ``op_*`` in ``helpers.agents.remote``.

        Raises:
            Inconclusive: the agent was lost.
            AgentError: the operation failed inside the agent.
        """
        results = self.call_indexed(op, deadline, **args)
        return [results[index] for index in sorted(results)]

    def call_one(self, op: str, deadline: float = DEFAULT_DEADLINE, **args: Any) -> Result:
        """Like ``call`` for operations that have exactly one result."""
        results = self.call(op, deadline, **args)
        if len(results) != 1:
            raise AgentError(f"{self.name}: {op} gave {len(results)} results instead of one")
        return results[0]

    def call_indexed(
        self, op: str, deadline: float = DEFAULT_DEADLINE, **args: Any
    ) -> dict[int, Result]:
        """Like ``call``, results by index: those that the agent did not reach are absent."""
        with self._lock:
            transport = self._connected(op)
            ident = next(self._ids)
            request = {"id": ident, "op": op, "deadline": deadline, "args": args}
            try:
                transport.send_line(json.dumps(request).encode())
                results = self._collect(transport, ident, Deadline(deadline + MARGIN_SECONDS))
            except StreamLostError as error:
                raise self._lost(op, str(error)) from error
            self._losses.clear()
            return results

    def _collect(self, transport: Transport, ident: int, deadline: Deadline) -> dict[int, Result]:
        results: dict[int, Result] = {}
        while True:
            line = transport.receive_line(deadline)
            if deadline.expired:
                raise StreamLostError(f"the agent was not done after {deadline.seconds:g} s")
            try:
                answer = json.loads(line)
                if answer["id"] != ident:
                    raise ValueError("answer to another request")
                if "error" in answer:
                    self._losses.clear()
                    raise self._remote_error(answer)
                if "done" in answer:
                    if answer["done"] != len(results):
                        raise ValueError(f"{answer['done']} results promised")
                    return results
                if answer["i"] in results:
                    raise ValueError("the same result twice")
                results[answer["i"]] = answer["result"]
            except (ValueError, KeyError, TypeError) as error:
                said = line[:120].decode("utf-8", "replace")
                raise StreamLostError(f"the agent does not keep the protocol: {said!r}") from error

    def _remote_error(self, answer: Result) -> AgentError:
        error = AgentError(f"{self.name}: {answer['error']}")
        if answer.get("traceback"):
            error.add_note(f"in the agent:\n{answer['traceback']}")
        return error

    # -- connection -----------------------------------------------------------------------------

    def _connected(self, op: str) -> Transport:
        """The open stream; opens it when there is none or the old one ended by itself."""
        if self._transport is not None and self._transport.ended():
            self._note_loss(op, "the agent ended while nothing was asked of it")
        if self._transport is not None:
            return self._transport
        if len(self._losses) >= LOSSES_IN_A_ROW:
            raise Inconclusive(
                f"{self.name} was lost {len(self._losses)} times in a row and is given up; "
                f"first: {self._losses[0].reason}"
            )
        try:
            self._transport = self._connect()
            line = self._transport.receive_line(Deadline(HELLO_SECONDS))
            self._hello = json.loads(line)["hello"]
            if self._hello["protocol"] != PROTOCOL:
                raise StreamLostError(
                    f"it speaks protocol {self._hello['protocol']}, the harness {PROTOCOL}: "
                    "delete the agents' namespace, so that they are deployed again"
                )
        except StreamLostError as error:
            raise self._lost(op, str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._lost(op, f"its first line is no hello: {line[:120]!r}") from error
        return self._transport

    def _lost(self, op: str, reason: str) -> Inconclusive:
        said = self._note_loss(op, reason)
        return Inconclusive(f"{self.name} was lost during {op}: {said}")

    def _note_loss(self, op: str, reason: str) -> str:
        if self._transport is not None:
            self._transport.close()
            if self._transport.stderr:
                reason = f"{reason}; it last wrote: {self._transport.stderr[-500:]}"
            self._transport = None
        loss = Loss(self.name, op, reason)
        self._losses.append(loss)
        self._on_loss(loss)
        return reason

    def close(self) -> None:
        """End the session; the next request would open a new one."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None
