"""What changes on a host, with the time at which it changed.

Routes, rules and addresses come from the kernel's own announcements (rtnetlink(7)); sessions of
BIRD and processes are looked at again and again. Only changes are kept.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.agents.remote.host import bird_reply, matching

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Json
    from helpers.agents.remote.streams import Loop

KEPT = 5000  # events of one monitor; what comes after is counted
GROUPS = 0x40 | 0x80 | 0x10 | 0x400 | 0x100 | 0x40000  # routes, rules and addresses of both
MESSAGES = {20: "address added", 21: "address removed", 24: "route added", 25: "route removed",
            32: "rule added", 33: "rule removed"}  # fmt: skip
PROTOCOLS = {2: "kernel", 3: "boot", 4: "static", 9: "ra", 12: "bird", 80: "felix"}
TYPES = {1: "", 6: "blackhole ", 7: "unreachable ", 8: "prohibit "}  # others are nobody's route
CLONED = 0x200
LOCAL_TABLE = 255
HEADER = struct.Struct("=IHHII")
ROUTE = struct.Struct("=BBBBBBBBI")
ADDRESS = struct.Struct("=BBBBI")
SESSION = re.compile(r"(\S+)\s+BGP\s+\S+\s+(\S+)\s+\S+\s*(\S*)")
VERSIONS = {socket.AF_INET: 4, socket.AF_INET6: 6}


class Monitor:
    """Keeps events: {at, kind, version, text}."""

    def __init__(self, loop: Loop, spec: Json) -> None:
        self.loop, self.spec = loop, spec
        self.interval = float(spec.get("interval", 0.5))
        self.events: list[Json] = []
        self.missed = 0

    def note(self, kind: str, version: int | None, text: str) -> None:
        if len(self.events) < KEPT:
            event = {"at": time.monotonic(), "kind": kind, "version": version, "text": text}
            self.events.append(event)
        else:
            self.missed += 1

    def close(self) -> None:
        """Called when the process of flows ends."""

    def report(self) -> list[Json]:
        if not self.missed:
            return self.events
        text = f"{self.missed} more changes were not kept"
        last: Json = {"at": time.monotonic(), "kind": "monitor", "version": None, "text": text}
        return [*self.events, last]


class Routes(Monitor):
    """The kernel's announcements of routes, rules and addresses."""

    def __init__(self, loop: Loop, spec: Json) -> None:
        super().__init__(loop, spec)
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.sock.bind((0, GROUPS))
        self.sock.setblocking(False)
        loop.watch(self.sock, self._readable, select.EPOLLIN)

    def _readable(self, _: int) -> None:
        try:
            while True:
                self._messages(self.sock.recv(1 << 16))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.note("monitor", None, "the kernel had more changes than could be read")

    def _messages(self, data: bytes) -> None:
        while len(data) >= HEADER.size:
            length, kind = HEADER.unpack_from(data)[:2]
            body = data[HEADER.size : length]
            data = data[(length + 3) & ~3 :]
            if kind in (20, 21):
                self._address(MESSAGES[kind], body)
            elif kind in MESSAGES:
                self._route(MESSAGES[kind], body, rule=kind >= 32)

    def _address(self, what: str, body: bytes) -> None:
        family, length, flags, _, index = ADDRESS.unpack_from(body)
        found = attributes(body[ADDRESS.size :])
        packed = found.get(2) or found.get(1)  # IFA_LOCAL, else IFA_ADDRESS
        if family in VERSIONS and packed:
            address = socket.inet_ntop(family, packed)
            tentative = " tentative" if flags & 0x40 else ""
            text = f"{what}: {address}/{length} dev {device(index)}{tentative}"
            self.note("address", VERSIONS[family], text)

    def _route(self, what: str, body: bytes, *, rule: bool) -> None:
        family, length, _, _, table, protocol, _, kind, flags = ROUTE.unpack_from(body)
        found = attributes(body[ROUTE.size :])
        if family not in VERSIONS or flags & CLONED:
            return
        if rule:
            self.note("rule", VERSIONS[family], f"{what}: to table {number(found, 15) or table}")
            return
        if kind not in TYPES or (number(found, 15) or table) == LOCAL_TABLE:
            return
        to = f"{socket.inet_ntop(family, found[1])}/{length}" if 1 in found else "default"
        via = f" via {socket.inet_ntop(family, found[5])}" if 5 in found else ""
        through = f" dev {device(number(found, 4) or 0)}" if 4 in found else ""
        by = PROTOCOLS.get(protocol, str(protocol))
        text = f"{what}: {TYPES[kind]}{to}{via}{through} proto {by}"
        self.note("route", VERSIONS[family], text)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes of a netlink message by type."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def number(found: dict[int, bytes], kind: int) -> int | None:
    return int.from_bytes(found[kind], "little") if kind in found else None


def device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"#{index}"


class Looking(Monitor):
    """Looks at named things again and again, and notes those that are not as before."""

    kind = ""

    def __init__(self, loop: Loop, spec: Json) -> None:
        super().__init__(loop, spec)
        self.version: int | None = spec.get("version")
        self.before: dict[str, str] | None = None
        loop.plan(time.monotonic(), self)

    def turn(self, now: float) -> float:
        seen = self.look()
        if self.before is not None:
            for name in {**self.before, **seen}:
                was, now_is = self.before.get(name, "absent"), seen.get(name, "absent")
                if was != now_is:
                    self.note(self.kind, self.version, f"{name}: {was} -> {now_is}")
        self.before = seen
        return self.interval

    def look(self) -> dict[str, str]:
        raise NotImplementedError


class Bird(Looking):
    """BGP sessions on a control socket: {socket, version}."""

    kind = "bgp"

    def look(self) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1.0)
            try:
                sock.connect(self.spec["socket"])
                reader = sock.makefile("rb")
                bird_reply(reader)
                sock.sendall(b"show protocols\n")
                lines, _ = bird_reply(reader)
            except OSError:
                # Its sessions are neither up nor down then: nothing is known of them.
                return {**(self.before or {}), "BIRD": "does not answer"}
        found = {"BIRD": "answers"}
        for line in lines:
            match = SESSION.match(line)
            if match:
                found[match[1]] = match[3] or match[2]
        return found


class Processes(Looking):
    """Processes of some programs: {names}."""

    kind = "process"

    def look(self) -> dict[str, str]:
        names, found = set(self.spec["names"]), {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended meanwhile
            if any(word.endswith((b"-live", b"-ready")) for word in argv):
                continue  # kubelet's probes come and go all the time
            name = argv[0].rpartition(b"/")[2].decode("utf-8", "replace")
            if name in names:
                what = (
                    b" ".join(argv[:2]).decode("utf-8", "replace")
                    if name == "calico-node"
                    else name
                )
                found[f"{what} (pid {entry.name})"] = "runs"
        return found


class Files(Looking):
    """Files that programs are installed or configured with: {paths}."""

    kind = "cni"

    def look(self) -> dict[str, str]:
        found = {}
        for name in self.spec["paths"]:
            try:
                seen = Path(name).stat()
            except OSError:
                continue
            # When it was written, and its size: what is in it may be a program of 60 MB.
            written = time.strftime("%H:%M:%S", time.gmtime(seen.st_mtime))
            found[name] = f"{seen.st_size} bytes, written {written} UTC"
        return found


class Freeze(Monitor):
    """Has processes stand still (SIGSTOP) for ``seconds``: {name}. They go on in any case.

    It runs where they do, because what is frozen may be what sessions lead through.
    """

    def __init__(self, loop: Loop, spec: Json) -> None:
        super().__init__(loop, spec)
        self.until = time.monotonic() + float(spec["seconds"])
        self.pids = self._signal([pid for pid, _ in matching(spec)], signal.SIGSTOP, "frozen")
        if not self.pids:
            raise RuntimeError(f"there is no process {spec['name']} to be frozen")
        loop.plan(self.until, self)

    def turn(self, now: float) -> None:
        self.close()

    def close(self) -> None:
        self.pids, pids = [], self.pids
        self._signal(pids, signal.SIGCONT, "thawed")

    def _signal(self, pids: list[int], number: signal.Signals, said: str) -> list[int]:
        done = []
        for pid in pids:
            try:
                os.kill(pid, number)
                done.append(pid)
            except OSError as error:
                self.note("process", None, f"{self.spec['name']} (pid {pid}): not {said}: {error}")
            else:
                self.note("process", None, f"{self.spec['name']} (pid {pid}): {said}")
        return done


MONITORS: dict[str, Any] = {
    "files": Files,
    "freeze": Freeze,
    "routes": Routes,
    "bird": Bird,
    "processes": Processes,
}
