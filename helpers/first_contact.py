#!/usr/bin/env python3
"""What a new pod can reach in its first moments: the first program that runs in it.

Standard library only, Python 3.9: it is shipped as text into an init container (``newborn``). It
asks each family's targets again and again until one of them answers, and leaves the story in the
container's termination message. A refusal is an answer: the packet got there and one came back.

Argument: {"ipv4": [[address, port], ...], "ipv6": [...]} as JSON.
Message: {"ipv4": {"ms": milliseconds until the first answer, or null, "attempts": n,
"errors": {name: count}}, "ipv6": {...}}; the clock starts with the script.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
GIVE_UP = 3.0  # seconds: well beyond the promise, short of making a broken cluster slow
ROUND = 0.2  # seconds that one attempt may take
PAUSE = 0.02  # seconds between two attempts
MESSAGE = Path("/dev/termination-log")  # Kubernetes' default terminationMessagePath
ANSWERS = (0, errno.ECONNREFUSED)
FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def milliseconds() -> float:
    return round((time.monotonic() - STARTED) * 1000, 1)


def attempt(family: int, targets: list[list[Any]], errors: dict[str, int]) -> bool:
    """One connection to each target at once; whether one of them answered."""
    with contextlib.ExitStack() as opened:
        poller = select.poll()
        waiting: dict[int, socket.socket] = {}
        for address, port in targets:
            sock = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            number = sock.connect_ex((address, port))
            if number in ANSWERS:
                return True
            if number == errno.EINPROGRESS:
                poller.register(sock, select.POLLOUT)
                waiting[sock.fileno()] = sock
            else:
                note(errors, number)
        return answered(poller, waiting, errors)


def answered(poller: Any, waiting: dict[int, socket.socket], errors: dict[str, int]) -> bool:
    until = time.monotonic() + ROUND
    while waiting and time.monotonic() < until:
        for descriptor, _ in poller.poll(max(0.0, until - time.monotonic()) * 1000):
            number = waiting[descriptor].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number in ANSWERS:
                return True
            note(errors, number)
            poller.unregister(descriptor)
            del waiting[descriptor]
    if waiting:
        note(errors, errno.ETIMEDOUT)
    return False


def note(errors: dict[str, int], number: int) -> None:
    name = errno.errorcode.get(number, str(number))
    errors[name] = errors.get(name, 0) + 1


def story(family: int, targets: list[list[Any]]) -> dict[str, Any]:
    attempts = 0
    errors: dict[str, int] = {}
    while milliseconds() < GIVE_UP * 1000:
        attempts += 1
        if attempt(family, targets, errors):
            return {"ms": milliseconds(), "attempts": attempts, "errors": errors}
        select.select([], [], [], PAUSE)
    return {"ms": None, "attempts": attempts, "errors": errors}


def main() -> None:
    told: dict[str, Any] = {}

    def tell(name: str, targets: list[list[Any]]) -> None:
        told[name] = story(FAMILIES[name], targets)

    wanted = json.loads(sys.argv[1])
    threads = [threading.Thread(target=tell, args=item) for item in wanted.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    MESSAGE.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
