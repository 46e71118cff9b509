"""What an error of a socket says of the network."""

from __future__ import annotations

import errno
import os
import socket

from helpers.agents.remote.sockets import FAMILIES, sockaddr, version_of

UNREACHABLE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EACCES,  # a "prohibit" route, or ICMP administratively prohibited
    errno.EPERM,  # dropped on its way out by this host's own packet filter
    errno.EPROTO,
    errno.EMSGSIZE,  # larger than the path, and fragmenting was forbidden
    errno.ENOPROTOOPT,  # ICMP protocol unreachable
}
REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}


def classify(number: int, target: str) -> str:
    """Outcome of a socket error; what is this host's own trouble is inconclusive."""
    if number in REFUSED:
        return "refused"
    if number in UNREACHABLE:
        return "unreachable"
    if number == errno.ETIMEDOUT:
        return "timeout"
    if number == errno.EADDRNOTAVAIL and not has_source(target):
        return "unreachable"
    return "inconclusive"


def has_source(target: str) -> bool:
    """Whether this host has a route and a source address for a target."""
    with socket.socket(FAMILIES[version_of(target)], socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(sockaddr(target, 9))
        except OSError:
            return False
    return True


def error_text(number: int, stage: str) -> str:
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)}) {stage}"
