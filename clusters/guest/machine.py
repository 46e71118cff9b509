"""A guest node as the host sees it: a process with a console, a disk and a network cable.

It outlives whoever starts it and is found again by its record, or by the cluster's mark in its
environment; the cable is found by its name. Nothing else of it is outside of its folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clusters import netns, processes
from clusters.commands import missing, output, run
from clusters.errors import ClusterError
from clusters.guest.host import MEMORY_FOLDER
from clusters.guest.plan import SHARED, GuestPlan, device_prefix, hosts, kernel_arguments, settings
from clusters.images import GuestFiles
from clusters.processes import Identity
from clusters.records import read_json, write_json
from clusters.spec import ClusterSpec

GUESTS: Final = "guests"  # folder of all guests of a cluster
CONSOLE: Final = "console.log"
RECORD: Final = "guest.json"
CONSOLE_LINES: Final = 25
# What /dsc/init and /dsc/join say on the console, with the seconds since the kernel's start.
_SAID = re.compile(r"guest: \[([\d.]+)\] (.+)")
FAILED: Final = "failed to join"
NICE: Final = -5  # of the guest as a whole, beside the containers of the other nodes
# dockerd and guests are nobody's children on purpose: a reference keeps Python from warning.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest node that was started.

    Attributes:
        process: its kernel; everything that runs in the guest ends with it.
        started: Unix time in seconds.
        folder: its disk, console and the folder that it shares with the host.
    """

    name: str
    process: Identity
    started: float
    folder: Path

    @property
    def alive(self) -> bool:
        return self.process.alive

    @property
    def shared(self) -> Path:
        return self.folder / SHARED

    def write(self) -> None:
        """Put its record into its folder, so that any process finds it (``guests_of``)."""
        record = {"name": self.name, "process": self.process.to_json(), "started": self.started}
        write_json(self.folder / RECORD, record)

    def console(self, lines: int = CONSOLE_LINES) -> str:
        """The console's last lines, indented for a message."""
        return console_tail(self.folder / CONSOLE, lines)

    def said(self) -> list[tuple[float, str]]:
        """What its scripts told so far: seconds since its kernel started, and a line."""
        return read_said(self.folder / CONSOLE)

    def memory(self) -> int:
        """Bytes of the host's memory that its own memory takes: what it ever touched."""
        for handle in Path(f"/proc/{self.process.pid}/fd").iterdir():
            if str(handle.readlink()).startswith(f"{MEMORY_FOLDER}/"):
                return handle.stat().st_blocks * 512
        return 0

    def trouble(self) -> str | None:
        """Why waiting for it makes no sense; None when it does."""
        if not self.alive:
            return f"guest node {self.name} ended; its console's last lines:\n{self.console()}"
        if any(FAILED in line for _, line in self.said()):
            return f"guest node {self.name} could not join:\n{self.console()}"
        return None


def start(
    plan: GuestPlan, spec: ClusterSpec, files: GuestFiles, cluster: str, folder: Path, bridge: str
) -> Guest:
    """Start a guest node; it boots, and waits until it is told how to join.

    Args:
        folder: of the cluster.
        bridge: the device that the other nodes are connected to, in this network namespace.

    Raises:
        CommandFailedError: its network cable could not be made.
        ClusterError: its kernel ended at once.
    """
    own = folder / GUESTS / plan.name
    (own / SHARED).mkdir(parents=True)
    (own / SHARED / "settings").write_text(settings(plan, spec))
    (own / SHARED / "hosts").write_text(hosts(plan, spec, {}))
    connect(plan, bridge)
    child = _spawn(kernel_arguments(plan, files, own), own, cluster)
    process = Identity.of(child.pid)
    if process is None:
        raise ClusterError(
            f"The kernel of guest node {plan.name} ended at once:\n{console_tail(own / CONSOLE)}"
        )
    guest = Guest(plan.name, process, time.time(), own)
    guest.write()
    return guest


def _spawn(argv: list[str], folder: Path, cluster: str) -> subprocess.Popen[bytes]:
    try:
        with (folder / CONSOLE).open("ab") as console:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=_environment(cluster),
                start_new_session=True,  # a Ctrl-C at the terminal is for the run
                cwd=folder,
            )
    except FileNotFoundError as error:
        raise ClusterError(missing(argv[0])) from error
    _children.append(child)
    _prefer(child.pid)
    return child


def _prefer(pid: int) -> None:
    """Let a session of processes have three times a share of the processors, if it has to share.

    Containers get theirs as one group, sessions as one each (sched(7), autogroup). A guest's
    kernel and programs are one session, and need more time for the same work than a container.
    """
    with contextlib.suppress(OSError):  # not root, or a kernel without groups for sessions
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))


def _environment(cluster: str) -> dict[str, str]:
    """The cluster's mark without the run's: a kept cluster outlives its run."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, processes.CLUSTER_VARIABLE: cluster, "TMPDIR": str(MEMORY_FOLDER)}


def connect(plan: GuestPlan, bridge: str) -> None:
    """Lay the cable: one end is a port of the bridge, on the other the guest sends frames."""
    run(["ip", "link", "add", plan.device, "type", "veth", "peer", "name", plan.port])
    # The host's own stack is to stay silent on both ends: what comes there is the guest's, and
    # an answer to its ARP requests would be one too many.
    for device in (plan.device, plan.port):
        run(["ip", "link", "set", device, "arp", "off"])
        Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
    run(["ip", "link", "set", plan.port, "master", bridge])
    run(["ip", "link", "set", plan.port, "up"])
    run(["ip", "link", "set", plan.device, "up"])


def disconnect(cluster: str, namespace: str | None) -> None:
    """Remove the cables of all guests of a cluster, if there are any.

    Args:
        namespace: name of the engine's network namespace; None: the machine's own.
    """
    if namespace is not None and not netns.handle(namespace).exists():
        return  # they went with it
    place = netns.visiting(netns.handle(namespace)) if namespace else contextlib.nullcontext()
    with place:
        # /sys/class/net shows the namespace that sysfs was mounted in, so `ip` is asked.
        for link in json.loads(output(["ip", "-json", "link", "show"]) or "[]"):
            name = str(link["ifname"])
            if name.startswith(device_prefix(cluster)) and name.endswith("b"):
                run(["ip", "link", "delete", name], check=False)


def guests_of(folder: Path) -> list[Guest]:
    """The guests of a cluster that were started, by its folder."""
    found = []
    for own in sorted((folder / GUESTS).iterdir()) if (folder / GUESTS).is_dir() else ():
        record = read_json(own / RECORD)
        if record is not None:
            process = Identity.from_json(record["process"])
            found.append(Guest(record["name"], process, float(record["started"]), own))
    return found


def console_tail(console: Path, lines: int = CONSOLE_LINES) -> str:
    """The last lines of a console that say something, indented for a message."""
    text = console.read_text(errors="replace") if console.exists() else ""
    shown = [line.rstrip() for line in text.replace("\r", "").splitlines() if line.strip()]
    return "\n".join(f"  | {line}" for line in shown[-lines:]) or "  | (nothing)"


def read_said(console: Path) -> list[tuple[float, str]]:
    """What a guest's scripts told on its console."""
    text = console.read_text(errors="replace") if console.exists() else ""
    return [(float(m[1]), m[2].rstrip()) for m in _SAID.finditer(text)]
