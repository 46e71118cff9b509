"""DNS queries to one server (RFC 1035), and the host's own resolver."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from helpers.agents.remote.outcomes import classify
from helpers.agents.remote.sockets import FAMILIES, sockaddr, version_of

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


RECORDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def dns_query(name: str, record: str, ident: int) -> bytes:
    """A query with recursion desired (RFC 1035 4.1)."""
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0)
    return header + encoded + struct.pack("!2H", RECORDS[record], 1)


def dns_name(message: bytes, at: int) -> tuple[str, int]:
    """Name at an offset, and the offset after it; compression is followed forwards only."""
    labels: list[str] = []
    after = None
    for _ in range(128):
        length = message[at]
        if length >= 0xC0:
            after = at + 2 if after is None else after
            at = struct.unpack("!H", message[at : at + 2])[0] & 0x3FFF
        elif length == 0:
            return ".".join(labels) + ".", at + 1 if after is None else after
        else:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
    raise ValueError("a name that never ends")


def dns_parse(message: bytes) -> Json:
    _, flags, questions, answers, _, _ = struct.unpack("!6H", message[:12])
    at = 12
    for _ in range(questions):
        at = dns_name(message, at)[1] + 4
    records = []
    for _ in range(answers):
        name, at = dns_name(message, at)
        kind, _, ttl, length = struct.unpack("!HHIH", message[at : at + 10])
        at += 10
        record = {"name": name, "type": kind, "ttl": ttl}
        record["value"] = dns_value(message, at, kind, length)
        records.append(record)
        at += length
    rcode = RCODES.get(flags & 0xF, str(flags & 0xF))
    return {"rcode": rcode, "truncated": bool(flags & 0x200), "answers": records}


def dns_value(message: bytes, at: int, kind: int, length: int) -> str:
    data = message[at : at + length]
    if kind == RECORDS["A"]:
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == RECORDS["AAAA"]:
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind in (RECORDS["PTR"], RECORDS["CNAME"], RECORDS["NS"]):
        return dns_name(message, at)[0]
    if kind == RECORDS["SRV"]:
        priority, weight, port = struct.unpack("!3H", data[:6])
        return f"{priority} {weight} {port} {dns_name(message, at + 6)[0]}"
    return data.hex()


def dns_ask(query: Json) -> Json:
    """One query, sent once, to one server of either family."""
    record, server = query["record"].upper(), query["server"]
    ident = struct.unpack("!H", os.urandom(2))[0]
    message = dns_query(query["name"], record, ident)
    kind = socket.SOCK_STREAM if query.get("transport") == "tcp" else socket.SOCK_DGRAM
    began = time.monotonic()
    try:
        with socket.socket(FAMILIES[version_of(server)], kind) as sock:
            sock.settimeout(float(query.get("timeout", 2.0)))
            sock.connect(sockaddr(server, int(query.get("port", 53))))
            answer = dns_exchange(sock, kind, message)
            if answer[:2] != message[:2]:
                raise ValueError("answer to another question")
            parsed = dns_parse(answer)
    except OSError as error:
        number = error.errno or errno.ETIMEDOUT
        return {"outcome": classify(number, server), "rcode": None, "error": str(error)}
    except (ValueError, IndexError, struct.error) as error:
        return {"outcome": "wrong_peer", "rcode": None, "error": f"not a DNS answer: {error}"}
    wanted = [a["value"] for a in parsed["answers"] if a["type"] == RECORDS[record]]
    spent = round((time.monotonic() - began) * 1000, 3)
    return {"outcome": "reached", "values": wanted, "ms": spent, "error": None, **parsed}


def dns_exchange(sock: socket.socket, kind: int, message: bytes) -> bytes:
    if kind == socket.SOCK_DGRAM:
        sock.send(message)
        return sock.recv(65_535)
    sock.sendall(struct.pack("!H", len(message)) + message)
    received = b""
    while len(received) < 2 or len(received) < 2 + struct.unpack("!H", received[:2])[0]:
        data = sock.recv(65_535)
        if not data:
            raise ConnectionError("closed by the server before it answered")
        received += data
    return received[2:]


def op_dns(call: Call) -> None:
    """``queries``: list of {name, record, server, port, transport: udp|tcp, timeout}."""
    call.each(call.args["queries"], dns_ask, threads=32)


def op_getaddrinfo(call: Call) -> None:
    """What this host's resolver answers, in its order: {host, port}."""
    try:
        found = socket.getaddrinfo(
            call.args["host"], call.args.get("port"), type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        call.emit(0, {"addresses": [], "error": str(error)})
        return
    addresses = list(dict.fromkeys(entry[4][0] for entry in found))
    call.emit(0, {"addresses": addresses, "error": None})
