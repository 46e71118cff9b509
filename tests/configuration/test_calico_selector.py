"""Calico's selector language."""

from __future__ import annotations

import pytest

from helpers.calico_selector import SelectorError, selects

LABELS = {
    "zone": "eu-1",
    "kubernetes.io/os": "linux",
    "node-role.kubernetes.io/worker": "",
    "in-use": "yes",
}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("all()", True),
        (" all ( ) ", True),
        ("!all()", False),
        ("global()", True),
        ("has(zone)", True),
        ("has(kubernetes.io/os)", True),
        ("has(missing)", False),
        ("!has(node-role.kubernetes.io/worker)", False),
        ("zone == 'eu-1'", True),
        ('zone == "eu-2"', False),
        ("zone != 'eu-2'", True),
        ("missing != 'x'", True),
        ("missing == ''", False),
        ("zone in {'eu-1', 'eu-2'}", True),
        ("zone not in {'eu-1'}", False),
        ("missing not in { 'a' }", True),
        ("zone in {}", False),
        ("zone starts with 'eu'", True),
        ("zone ends  with '2'", False),
        ("zone contains '-'", True),
        ("missing contains ''", False),
        ("in-use == 'yes'", True),
        ("zone == 'us' || kubernetes.io/os == 'linux' && has(zone)", True),
        ("(zone == 'us' || has(zone)) && !has(zone)", False),
        ("!(zone == 'us')", True),
    ],
)
def test_selectors(selector: str, expected: bool) -> None:
    assert selects(selector, LABELS) is expected


@pytest.mark.parametrize(
    "selector",
    ["zone = 'a'", "zone ==", "zone == a", "(all()", "all() all()", "&&", "zone in {'a'", "has()"],
)
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(SelectorError):
        selects(selector, LABELS)
