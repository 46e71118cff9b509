"""``run``: requests from stdin, results to stdout."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from helpers.agents.remote.sockets import IPPROTO_SCTP

PROTOCOL = 1

Json = dict[str, Any]

PACKAGE = __name__.rpartition(".")[0]  # Python 3.9 has no __package__ yet in an archive
# Modules of this package, and the operations whose functions (``op_*``) they hold.
MODULES = {
    "capture": ("capture_start", "capture_stop"),
    "dns": ("dns", "getaddrinfo"),
    "echo": ("listen",),
    "handles": ("close", "report"),
    "host": (
        "bird",
        "facts",
        "http_get",
        "processes",
        "read_file",
        "run",
        "signal_process",
        "sleep",
        "sysctl",
    ),
    "oneway": ("udp_collect", "udp_listen", "udp_send"),
    "packets": ("send_frames", "send_packets"),
    "probe": ("probe",),
    "streams": ("clock", "flows_ask", "flows_start"),
    "tcp": ("connect_hold", "tcp_bulk"),
}
OPS = dict(sorted((op, f"{PACKAGE}.{name}") for name, ops in MODULES.items() for op in ops))


class Call:
    """One request in work."""

    def __init__(self, agent: Runner, request: Json) -> None:
        self.agent = agent
        self.id = request["id"]
        self.op: str = request["op"]
        self.args: Json = request.get("args") or {}
        self.until = time.monotonic() + float(request.get("deadline") or 60.0)
        self.count = 0
        self.lines: list[str] = []
        self.flushed = time.monotonic()
        self.lock = threading.Lock()

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.until

    def emit(self, index: int, result: Json) -> None:
        """Give one result; many small ones are written together."""
        with self.lock:
            self.count += 1
            self.lines.append(json.dumps({"id": self.id, "i": index, "result": result}))
            now = time.monotonic()
            if now - self.flushed > 0.05 or len(self.lines) > 500:
                self.flushed = now
                self.agent.write(self.lines)
                self.lines = []

    def each(self, items: list[Json], work: Callable[[Json], Json], threads: int) -> None:
        """Do blocking work for each item in threads and emit in order of completion."""
        import concurrent.futures

        with concurrent.futures.ThreadPoolExecutor(min(threads, len(items) or 1)) as pool:
            futures = {pool.submit(work, item): index for index, item in enumerate(items)}
            for future in concurrent.futures.as_completed(futures):
                self.emit(futures[future], future.result())

    def keep(self, thing: Any) -> int:
        return self.agent.keep(thing)

    def kept(self, handle: int) -> Any:
        return self.agent.things[handle]

    def release(self, handle: int) -> Any:
        return self.agent.things.pop(handle)

    def work(self) -> None:
        try:
            operation(self.op)(self)
            self.lines.append(json.dumps({"id": self.id, "done": self.count}))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"id": self.id, "error": text, "traceback": traceback.format_exc()}
            self.lines.append(json.dumps(answer))
        self.agent.write(self.lines)


def operation(name: str) -> Callable[[Call], None]:
    """The function of an operation; the first use of a module imports it.

    Raises:
        KeyError: there is no such operation.
    """
    found: Callable[[Call], None] = getattr(import_module(OPS[name]), f"op_{name}")
    return found


def capabilities() -> Json:
    """What this process may do, found by trying."""
    attempts = {
        "ipv4": (socket.AF_INET, socket.SOCK_DGRAM, 0),
        "ipv6": (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        "ping4": (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        "ping6": (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6),
        "raw4": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        "raw6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0),
        "sctp": (socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP),
    }
    found = {}
    for name, (family, kind, proto) in attempts.items():
        try:
            socket.socket(family, kind, proto).close()
            found[name] = True
        except OSError:
            found[name] = False
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    found["net_admin"] = bool(effective >> 12 & 1)
    return found


class Runner:
    """``run``: requests from stdin, each in a thread of its own."""

    def __init__(self, name: str, node: str) -> None:
        self.name, self.node = name, node
        self.things: dict[int, Any] = {}
        self.handles = itertools.count(1)
        self.lock = threading.Lock()
        # The stream is ours alone: whatever prints, here or in a child, prints to stderr.
        self.out = os.dup(1)
        os.set_inheritable(self.out, False)
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def hello(self) -> Json:
        return {
            "protocol": PROTOCOL,
            "name": self.name,
            "node": self.node,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "clock": time.time(),
            "ops": sorted(OPS),
            "capabilities": capabilities(),
        }

    def keep(self, thing: Any) -> int:
        handle = next(self.handles)
        self.things[handle] = thing
        return handle

    def write(self, lines: list[str]) -> None:
        if not lines:
            return
        data = ("\n".join(lines) + "\n").encode()
        with self.lock:
            while data:
                data = data[os.write(self.out, data) :]

    def run(self) -> None:
        self.write([json.dumps({"hello": self.hello()})])
        for line in sys.stdin.buffer:
            if not line.strip():
                continue
            try:
                call = Call(self, json.loads(line))
                if call.op not in OPS:
                    raise ValueError(f"unknown op {call.op!r}; known: {', '.join(OPS)}")
            except (ValueError, KeyError, TypeError) as error:
                ident = call_id(line)
                self.write([json.dumps({"id": ident, "error": str(error), "traceback": ""})])
                continue
            threading.Thread(target=call.work, daemon=True).start()
        # The harness is gone. Leave at once: nobody waits for what is still in work.
        os._exit(0)


def call_id(line: bytes) -> Any:
    try:
        return json.loads(line)["id"]
    except (ValueError, KeyError, TypeError):
        return None
