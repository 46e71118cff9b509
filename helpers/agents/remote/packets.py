"""Prebuilt packets and frames, sent as they are."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from helpers.agents.remote.outcomes import error_text
from helpers.agents.remote.sockets import FAMILIES, sockaddr

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json

BURST = 16  # packets that are sent without a pause when the sender is late


def op_send_packets(call: Call) -> None:
    """Prebuilt IP packets as hex, header included; each result says whether it left.

    The kernel routes by the destination and leaves the source alone: that is how a forged source
    gets out. It fills in the IPv4 checksum. {packets, interface: optional, interval}.
    """
    sockets: dict[int, socket.socket] = {}
    pace = time.monotonic()
    try:
        for index, text in enumerate(call.args["packets"]):
            packet = bytes.fromhex(text)
            version = packet[0] >> 4
            result: Json = {"sent": False, "error": None, "at": time.time()}
            try:
                if version not in sockets:
                    sockets[version] = raw_socket(version, call.args.get("interface"))
                address = (
                    socket.inet_ntop(socket.AF_INET, packet[16:20])
                    if version == 4
                    else socket.inet_ntop(socket.AF_INET6, packet[24:40])
                )
                sent = sockets[version].sendto(packet, sockaddr(address, 0))
                result["sent"] = sent == len(packet)
            except OSError as error:
                result["error"] = error_text(error.errno or 0, "on sending")
            call.emit(index, result)
            # By the clock: a guest kernel's shortest sleep is ten times what is asked for. But what
            # a long pause left undone is not sent at once: such a burst is what queues lose.
            now, interval = time.monotonic(), float(call.args.get("interval", 0.0))
            pace = max(pace + interval, now - BURST * interval)
            time.sleep(max(0.0, pace - now))
    finally:
        for sock in sockets.values():
            sock.close()


def raw_socket(version: int, interface: str | None) -> socket.socket:
    # IPPROTO_RAW means "header included" in both families (net/ipv4/af_inet.c, af_inet6.c).
    sock = socket.socket(FAMILIES[version], socket.SOCK_RAW, socket.IPPROTO_RAW)
    # What is forged is for others: the sender's own kernel would believe it as well.
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    if interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    return sock


def op_send_frames(call: Call) -> None:
    """Prebuilt Ethernet frames as hex on ``interface``."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((call.args["interface"], 0))
        for index, text in enumerate(call.args["frames"]):
            frame = bytes.fromhex(text)
            try:
                result: Json = {"sent": sock.send(frame) == len(frame), "error": None}
            except OSError as error:
                result = {"sent": False, "error": error_text(error.errno or 0, "on sending")}
            call.emit(index, result)
