"""One-way UDP: numbered datagrams, and a socket that writes down what arrives."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from helpers.agents.remote.outcomes import classify, error_text
from helpers.agents.remote.sockets import (
    ANYWHERE,
    FAMILIES,
    big_buffer,
    listening_socket,
    metadata,
    set_hops,
    sockaddr,
    version_of,
    want_metadata,
)

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


SO_MEMINFO, MEMINFO_DROPS = 55, 8  # linux/sock_diag.h


def drops(sock: socket.socket) -> int:
    """Datagrams for a socket that the kernel threw away; 0 where it does not say (before 4.12)."""
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (MEMINFO_DROPS + 1))
    except OSError:
        return 0
    return struct.unpack(f"={len(info) // 4}I", info)[MEMINFO_DROPS] if len(info) >= 36 else 0


class Sightings:
    """A UDP socket that writes down every datagram that arrives."""

    def __init__(self, args: Json) -> None:
        version = int(args["version"])
        self.sock = listening_socket(
            version,
            socket.SOCK_DGRAM,
            int(args.get("port", 0)),
            args.get("address") or ANYWHERE[version],
        )
        want_metadata(self.sock, version)
        big_buffer(self.sock)
        self.sock.setblocking(True)
        self.sock.settimeout(0.2)
        self.port = int(self.sock.getsockname()[1])
        self.seen: list[Json] = []
        self.arrivals: dict[str, int] = {}
        self.changed = threading.Condition()
        self.closed = False
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while not self.closed:
            try:
                data, ancillary, _, peer = self.sock.recvmsg(65_535, 256)
            except OSError:
                continue  # the 0.2 s timeout; a closed socket ends the loop
            hops, local = metadata(ancillary)
            text, _, _ = data.partition(b"\n")
            nonce, _, sequence = text.decode("utf-8", "replace").partition(" ")
            sighting = {
                "nonce": nonce,
                "sequence": int(sequence) if sequence.isdigit() else -1,
                "source": peer[0].split("%")[0],
                "source_port": peer[1],
                "local": local,
                "hops": hops,
                "bytes": len(data),
                "at": time.time(),
            }
            with self.changed:
                # Counted for each nonce: a report with a hole in it shows.
                self.arrivals[nonce] = sighting["arrival"] = self.arrivals.get(nonce, 0) + 1
                self.seen.append(sighting)
                self.changed.notify_all()
        self.sock.close()

    def matching(self, nonce: str) -> list[Json]:
        return [s for s in self.seen if s["nonce"] == nonce]

    def close(self) -> None:
        self.closed = True


def op_udp_listen(call: Call) -> None:
    """Start to write down datagrams: {version, port, address} -> {handle, port}."""
    sightings = Sightings(call.args)
    call.emit(0, {"handle": call.keep(sightings), "port": sightings.port})


def op_udp_collect(call: Call) -> None:
    """Sightings of ``nonce``; waits at most ``wait`` seconds for ``expect`` of them.

    The last result is the account: how many arrived, and how many the kernel threw away because
    the socket's buffer was full.
    """
    args, sightings = call.args, call.kept(call.args["handle"])
    nonce, expect = args["nonce"], int(args.get("expect", 0))
    with sightings.changed:
        sightings.changed.wait_for(
            lambda: len(sightings.matching(nonce)) >= expect, min(float(args["wait"]), call.left)
        )
        seen = sightings.matching(nonce)
        account = {"arrived": sightings.arrivals.get(nonce, 0), "dropped": drops(sightings.sock)}
    for index, sighting in enumerate(seen):
        call.emit(index, sighting)
    call.emit(len(seen), account)


def op_udp_send(call: Call) -> None:
    """Numbered datagrams to one target; each result says whether it left this host."""
    args = call.args
    target, version = args["target"], version_of(args["target"])
    with socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as sock:
        set_hops(sock, version, args.get("hops"))
        if args.get("source_port") or args.get("source"):
            sock.bind(
                sockaddr(args.get("source") or ANYWHERE[version], int(args.get("source_port") or 0))
            )
        pace = time.monotonic()
        for sequence in range(int(args["count"])):
            data = f"{args['nonce']} {sequence}\n".encode().ljust(int(args.get("size", 0)), b".")
            result: Json = {"sequence": sequence, "sent": True, "error": None, "outcome": None}
            try:
                sock.sendto(data, sockaddr(target, int(args["port"])))
            except OSError as error:
                number = error.errno or 0
                result.update(sent=False, error=error_text(number, "on sending"))
                result["outcome"] = classify(number, target)
            call.emit(sequence, result)
            pace += float(args.get("interval", 0.0))
            time.sleep(max(0.0, pace - time.monotonic()))
