"""Tracebacks that can be shown: an entry without a line number ends pytest itself.

Python 3.11 and later give compiler-made instructions (the way out of ``with`` and ``finally``) no
line, so ``tb_lineno`` may be None (PEP 626, "artificial" bytecode); pytest computes with it.
"""

from __future__ import annotations

from types import TracebackType


def drop_entries_without_line(error: BaseException | None) -> None:
    """Unlink such entries from the error and from what caused it, in place.

    The first entry of a traceback is kept: it is the caller's, whose line is known.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        _relink(error.__traceback__)
        error = error.__cause__ or error.__context__


def _relink(entry: TracebackType | None) -> None:
    while entry is not None:
        following = entry.tb_next
        # typeshed calls it int; it is None for such an instruction
        while following is not None and following.tb_lineno is None:
            following = following.tb_next
        entry.tb_next = following
        entry = following
