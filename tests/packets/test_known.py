"""A deviation may be known of some ways and kernels only."""

from __future__ import annotations

import pytest

from helpers.kernels import version
from helpers.packet_matrix.expected import Known


@pytest.mark.parametrize(
    ("text", "told"), [("6.18.44-fc-v782", (6, 18)), ("7.2.13", (7, 2)), ("10.0\n", (10, 0))]
)
def test_a_version_is_compared_as_numbers(text: str, told: tuple[int, int]) -> None:
    assert version(text) == told


def test_what_is_no_version() -> None:
    with pytest.raises(ValueError, match="no kernel's version"):
        version("rolling")


def test_a_deviation_of_newer_kernels() -> None:
    known = Known(("dropped",), "why", "source", ("same node",), (7, 2))
    assert known.applies("same node", lambda: (7, 2))
    assert known.applies("same node", lambda: (10, 0))
    assert not known.applies("same node", lambda: (6, 18))
    assert not known.applies("other node", lambda: (7, 2))
