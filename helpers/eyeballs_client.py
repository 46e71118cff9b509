"""Runs inside of a pod: connect to a name as RFC 8305 says, and tell which address answered.

Usage: python3 -c SCRIPT HOST PORT SECONDS. One JSON line: {"address", "ms", "error"}.
Only the standard library: Python's asyncio has Happy Eyeballs since 3.8.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

DELAY = 0.25  # seconds before the next address is tried as well (RFC 8305 section 5)


async def connect(host: str, port: int, seconds: float) -> dict[str, object]:
    began = time.monotonic()
    attempt = asyncio.open_connection(host, port, happy_eyeballs_delay=DELAY, interleave=1)
    try:
        _, writer = await asyncio.wait_for(attempt, seconds)
    except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041  # two things before 3.11
        return {"address": None, "ms": None, "error": f"{type(error).__name__}: {error}"}
    address = writer.get_extra_info("peername")[0]
    spent = round((time.monotonic() - began) * 1000, 1)
    writer.close()
    return {"address": address, "ms": spent, "error": None}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(connect(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
