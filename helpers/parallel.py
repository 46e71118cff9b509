"""The same work for several things at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def on_each(
    keys: Iterable[Key], work: Callable[[Key], Value], *, most: int = 16
) -> dict[Key, Value]:
    """``work(key)`` for every key, in threads; results by key, in the keys' order.

    Raises:
        Exception: what the first failing work raised.
    """
    wanted = list(keys)
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(most, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(work, wanted), strict=True))
