"""An error that passed through an instruction without a line can be shown all the same."""

from __future__ import annotations

import types

import pytest

from helpers.tracebacks import drop_entries_without_line


def lineless(function: types.FunctionType) -> types.FunctionType:
    """The same function, none of whose instructions has a line number."""
    code = function.__code__.replace(co_linetable=b"\xf8" * len(function.__code__.co_code))
    return types.FunctionType(code, function.__globals__)


def fails() -> None:
    raise OSError("no engine")


def passes_on() -> None:
    fails()


def test_entries_without_line_are_left_out_and_the_others_stay() -> None:
    with pytest.raises(OSError, match="no engine") as caught:
        lineless(passes_on)()  # type: ignore[arg-type]
    lines = [entry.lineno for entry in _entries(caught.value)]
    assert None in lines
    drop_entries_without_line(caught.value)
    names = [entry.frame for entry in _entries(caught.value)]
    assert names[-1] == "fails"
    assert None not in [entry.lineno for entry in _entries(caught.value)]
    assert "no engine" in str(caught.getrepr())


def test_causes_are_mended_too() -> None:
    def chained() -> None:
        try:
            lineless(passes_on)()  # type: ignore[arg-type]
        except OSError as error:
            raise RuntimeError("no cluster") from error

    with pytest.raises(RuntimeError) as caught:
        chained()
    drop_entries_without_line(caught.value)
    assert "no engine" in str(caught.getrepr(chain=True))


class _Entry:
    def __init__(self, entry: types.TracebackType) -> None:
        self.lineno: int | None = entry.tb_lineno
        self.frame = entry.tb_frame.f_code.co_name


def _entries(error: BaseException) -> list[_Entry]:
    found, entry = [], error.__traceback__
    while entry is not None:
        found.append(_Entry(entry))
        entry = entry.tb_next
    return found
