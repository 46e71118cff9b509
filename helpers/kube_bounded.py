"""Limits that the official client and its libraries do not have: nothing waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import urllib3

from helpers.kube_errors import KubeError
from helpers.waiting import Deadline

Result = TypeVar("Result")
PIECE = 65_536  # bytes


def whole_body(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    """The body of a response.

    The library limits each piece, so that a server which sends one byte now and then is waited
    for without end.

    Raises:
        KubeError: the deadline passed before the end of the body.
    """
    pieces = []
    while piece := response.read1(PIECE):
        pieces.append(piece)
        if deadline.expired:
            response.close()
            raise KubeError(f"the API server was still sending after {deadline.seconds:g} s")
    response.release_conn()
    return b"".join(pieces)


def opened(
    seconds: float, connect: Callable[[], Result], close: Callable[[Result], None]
) -> Result:
    """Open a connection whose library knows no limit; one that opens too late is closed.

    Raises:
        KubeError: it was not open in time.
        Exception: what ``connect`` raised.
    """
    late = threading.Event()
    made: list[Result] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            made.append(connect())
        except Exception as error:  # handed to the caller, who knows what it means
            failed.append(error)
        if late.is_set() and made:
            close(made[0])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not made:
        late.set()
        raise KubeError(f"nobody answered for {seconds:g} s")
    return made[0]
