"""Changes that a fault makes on nodes, as data: each can be observed, applied and reverted.

A change is written to the journal with the state it found *before* it is applied, so whoever
comes after a killed process can revert it. Reverting is idempotent: it may meet a change that was
applied, half applied, or only intended. ``then`` are steps that make a change take effect (restart
a daemon); they follow both the change and its reversal.
"""

from __future__ import annotations

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from helpers.faults.bench import Bench, CommandError, FaultError
from helpers.model import Family
from helpers.waiting import eventually

TABLE: Final = "dsfault"
RESTART_SECONDS: Final = 120.0
DONE_SECONDS: Final = 120.0  # a guest kernel is slow to start the programs of one look
KINDS: Final[dict[str, type[Change]]] = {}


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# -- steps -----------------------------------------------------------------------------------------


class Exec(_Data):
    """Run a command on a node."""

    step: Literal["exec"] = "exec"
    node: str
    argv: tuple[str, ...]

    def run(self, bench: Bench) -> None:
        bench.run(self.node, *self.argv)


class PodExec(_Data):
    """Run a command in a container of the pods that a selector finds (on one node)."""

    step: Literal["pod-exec"] = "pod-exec"
    namespace: str
    selector: str
    container: str
    argv: tuple[str, ...]
    node: str | None = None

    def run(self, bench: Bench) -> None:
        for pod in bench.pods(self.namespace, self.selector, self.node):
            bench.kube.exec(self.namespace, pod.name, list(self.argv), self.container)


class Restart(_Data):
    """Delete the pods that a selector finds (on one node); wait until others took their place.

    ``ready``: whether the new ones must become Ready (a fault may be that they do not).
    """

    step: Literal["restart"] = "restart"
    namespace: str
    selector: str
    node: str | None = None
    ready: bool = True

    def run(self, bench: Bench) -> None:
        old = {p.uid: p.name for p in bench.pods(self.namespace, self.selector, self.node)}
        for name in old.values():
            bench.kube.delete("v1", "Pod", name, self.namespace, grace_seconds=1)

        def fresh() -> int:
            found = bench.pods(self.namespace, self.selector, self.node)
            if any(pod.uid in old for pod in found):
                return 0
            return sum(pod.ready or not self.ready for pod in found)

        eventually(
            fresh,
            lambda count: count >= len(old),
            within=RESTART_SECONDS,
            what=f"{len(old)} new pods of {self.namespace}/{self.selector} are there",
        )


def signalling(node: str, command: str, signal: str) -> Exec:
    """Send a signal to the processes of a node that have this name (/proc/PID/comm)."""
    script = (
        "for p in /proc/[0-9]*; do read -r c < $p/comm || continue; "
        '[ "$c" = "$1" ] && kill -"$2" ${p#/proc/}; done; true'
    )
    return Exec(node=node, argv=("sh", "-c", script, "sh", command, signal))


Step = Annotated[Exec | PodExec | Restart, Field(discriminator="step")]


# -- changes ---------------------------------------------------------------------------------------


class Change(_Data, ABC):
    """One reversible change of one thing."""

    then: tuple[Step, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        KINDS[cls.__name__] = cls

    def of(self, fault: str) -> Self:
        """The change as a part of one fault, where several may be planted at once."""
        return self

    @property
    @abstractmethod
    def where(self) -> str:
        """What is changed, for messages; two changes of one thing have the same."""

    @abstractmethod
    def observe(self, bench: Bench) -> Any:
        """The state of what the change touches, as JSON; equal states are equal values."""

    @abstractmethod
    def apply(self, bench: Bench, before: Any) -> None:
        """Make the change; ``then`` is not its business."""

    @abstractmethod
    def revert(self, bench: Bench, before: Any) -> None:
        """Bring back the state that ``observe`` had told before the change."""

    def to_json(self) -> dict[str, Any]:
        return {"change": type(self).__name__, **self.model_dump(mode="json")}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Change:
        """Read what ``to_json`` wrote.

        Raises:
            FaultError: a kind that this version does not know.
        """
        given = dict(data)
        kind = KINDS.get(given.pop("change"))
        if kind is None:
            raise FaultError(f"the journal has an unknown kind of change: {data['change']}")
        return kind.model_validate(given)


class Rule(_Data):
    """One nftables rule and where it hooks in; ``type`` is the chain's: filter or nat."""

    hook: str
    priority: int
    rule: str
    type: str = "filter"


class NftTable(Change):
    """Rules in a private table of one node, where neither Felix nor kube-proxy repairs anything."""

    node: str
    family: Family
    rules: tuple[Rule, ...]
    table: str = TABLE

    def of(self, fault: str) -> Self:
        return self.model_copy(update={"table": f"{TABLE}_{re.sub(r'[^A-Za-z0-9]', '_', fault)}"})

    @property
    def _table(self) -> tuple[str, str]:
        return ("ip" if self.family is Family.IPV4 else "ip6", self.table)

    @property
    def where(self) -> str:
        return f"nft table {' '.join(self._table)} on {self.node}"

    def observe(self, bench: Bench) -> str | None:
        return bench.run(self.node, "nft", "list", "table", *self._table, check=False) or None

    def apply(self, bench: Bench, before: str | None) -> None:
        if before is not None:
            raise FaultError(f"{self.where} is there already: another fault is planted")
        chains = "".join(
            f"chain c{number} {{\ntype {rule.type} hook {rule.hook} priority {rule.priority}\n"
            f"policy accept\n{rule.rule}\n}}\n"
            for number, rule in enumerate(self.rules)
        )
        script = f"table {' '.join(self._table)} {{\n{chains}}}\n"
        bench.shell(self.node, 'printf %s "$1" | nft -f -', script)

    def revert(self, bench: Bench, before: str | None) -> None:
        bench.run(self.node, "nft", "delete", "table", *self._table, check=False)


class Sysctl(Change):
    """A kernel setting of a node. ``name`` with slashes: ``net/ipv6/conf/all/forwarding``."""

    node: str
    name: str
    value: str

    @property
    def where(self) -> str:
        return f"sysctl {self.name} on {self.node}"

    def observe(self, bench: Bench) -> str:
        return bench.run(self.node, "cat", f"/proc/sys/{self.name}").strip()

    def apply(self, bench: Bench, before: str) -> None:
        self._set(bench, self.value)

    def revert(self, bench: Bench, before: str) -> None:
        self._set(bench, before)

    def _set(self, bench: Bench, value: str) -> None:
        bench.shell(self.node, 'printf %s "$1" > "$2"', value, f"/proc/sys/{self.name}")


class File(Change):
    """The text of a file on a node; None: the file is not to be there."""

    node: str
    path: str
    text: str | None

    @property
    def where(self) -> str:
        return f"{self.path} on {self.node}"

    def observe(self, bench: Bench) -> dict[str, str] | None:
        found = bench.shell(
            self.node, 'test -e "$1" && stat -c %a "$1" && base64 -w0 "$1"', self.path, check=False
        )
        if not found:
            return None
        mode, content = found.split("\n", 1)
        return {"mode": mode, "content": content.strip()}

    def apply(self, bench: Bench, before: dict[str, str] | None) -> None:
        if self.text is None:
            bench.run(self.node, "rm", "-f", self.path)
            return
        content = base64.b64encode(self.text.encode()).decode()
        self._write(bench, content, before["mode"] if before else "644")

    def revert(self, bench: Bench, before: dict[str, str] | None) -> None:
        if before is None:
            bench.run(self.node, "rm", "-f", self.path)
        else:
            self._write(bench, before["content"], before["mode"])

    def _write(self, bench: Bench, content: str, mode: str) -> None:
        # Beside it first and then moved: whoever watches the file never sees half of it. The
        # draft is hidden, because the kubelet reads every other file of its manifests' folder.
        script = (
            'd=$(dirname "$2")/.dsfault-$(basename "$2"); printf %s "$1" | base64 -d > "$d" '
            '&& chmod "$3" "$d" && mv "$d" "$2"'
        )
        bench.shell(self.node, script, content, self.path, mode)


class Program(Change):
    """A program of a node replaced by a script; the original lies beside it meanwhile.

    The script finds the original at ``PATH.dsfault``. Nothing is copied: programs are large.
    """

    node: str
    path: str
    script: str

    @property
    def where(self) -> str:
        return f"program {self.path} on {self.node}"

    @property
    def aside(self) -> str:
        return f"{self.path}.dsfault"

    def observe(self, bench: Bench) -> str:
        script = 'sha256sum < "$1"; stat -c %a "$1"; test -e "$2" && echo aside'
        return bench.shell(self.node, script, self.path, self.aside, check=False)

    def apply(self, bench: Bench, before: str) -> None:
        bench.shell(
            self.node,
            'printf %s "$2" > "$1.new" && chmod 755 "$1.new" && ln "$1" "$3" && mv "$1.new" "$1"',
            self.path,
            self.script,
            self.aside,
        )

    def revert(self, bench: Bench, before: str) -> None:
        bench.shell(self.node, 'test ! -e "$2" || mv "$2" "$1"', self.path, self.aside)


class Frozen(Change):
    """Processes of a node that stand still (SIGSTOP): alive, but doing nothing.

    ``command`` is the kernel's name of the process (/proc/PID/comm, at most 15 characters);
    ``once``: a command on the node that succeeds when they have done what they are still to do.
    """

    node: str
    command: str
    once: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"process {self.command} on {self.node}"

    def observe(self, bench: Bench) -> str:
        script = (
            "for p in /proc/[0-9]*; do read -r c < $p/comm || continue; "
            '[ "$c" = "$1" ] && grep "^State:" $p/status; done; true'
        )
        found = bench.shell(self.node, script, self.command).split("\n")
        states = {line.split()[1] for line in found if line.strip()}
        if not states:
            return "absent"
        return "stopped" if "T" in states else "running"

    def apply(self, bench: Bench, before: str) -> None:
        if self.once:
            eventually(
                lambda: bench.run(self.node, *self.once),
                lambda _: True,
                within=DONE_SECONDS,
                retry_on=(CommandError,),
                what=f"{self.command} on {self.node} has done what is waited for",
            )
        self._signal(bench, "STOP")

    def revert(self, bench: Bench, before: str) -> None:
        self._signal(bench, "CONT")

    def _signal(self, bench: Bench, signal: str) -> None:
        signalling(self.node, self.command, signal).run(bench)


class Command(Change):
    """Anything a command can do and another can undo; ``look`` prints the state it touches.

    ``do`` must change what ``look`` prints and ``undo`` must bring it back, also when ``do`` never
    ran. ``look`` prints nothing that changes by itself (counters, lifetimes).
    """

    node: str
    do: tuple[str, ...]
    undo: tuple[str, ...]
    look: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"`{' '.join(self.look)}` on {self.node}"

    def observe(self, bench: Bench) -> str:
        return bench.run(self.node, *self.look, check=False)

    def apply(self, bench: Bench, before: str) -> None:
        bench.run(self.node, *self.do)

    def revert(self, bench: Bench, before: str) -> None:
        bench.run(self.node, *self.undo, check=False)


class PodCommand(Change):
    """The same in the agent container of a pod, whose network namespace it has.

    The pod must be the one it was: what is changed inside goes with the pod.
    """

    namespace: str
    pod: str
    do: tuple[str, ...]
    undo: tuple[str, ...]
    look: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"`{' '.join(self.look)}` in pod {self.namespace}/{self.pod}"

    def observe(self, bench: Bench) -> str:
        return self._run(bench, self.look)

    def apply(self, bench: Bench, before: str) -> None:
        self._run(bench, self.do)

    def revert(self, bench: Bench, before: str) -> None:
        self._run(bench, self.undo)

    def _run(self, bench: Bench, argv: tuple[str, ...]) -> str:
        return bench.kube.exec(self.namespace, self.pod, list(argv), "agent")
