"""Calico's selector language: which labels a selector selects.

The grammar is libcalico-go/lib/selector: comparisons over labels joined by ``&&``, ``||``, ``!``
and parentheses. https://docs.tigera.io/calico/latest/reference/resources/ippool#node-selector
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<string>"[^"]*"|'[^']*')
    | (?P<operator>&&|\|\||==|!=|!|\(|\)|\{|\}|,)
    | (?P<call>(?:has|all|global)\s*\()
    | (?P<words>(?:not\s+in|in|starts\s+with|ends\s+with|contains)(?![-\w./]))
    | (?P<label>[A-Za-z0-9_][-A-Za-z0-9_./]*)
    )""",
    re.VERBOSE,
)
Token = tuple[str, str]
_END: Final[Token] = ("end", "")


class SelectorError(ValueError):
    """The text is no selector; Calico would refuse it too."""


def selects(selector: str, labels: Labels) -> bool:
    """Whether a selector selects something with these labels. An empty one selects everything.

    Raises:
        SelectorError: it cannot be read.
    """
    return parse(selector)(labels)


def parse(selector: str) -> Predicate:
    """A selector as a predicate over labels."""
    if not selector.strip():
        return lambda _: True
    parser = _Parser(selector)
    predicate = parser.either()
    if parser.next != _END:
        raise SelectorError(f"{selector!r}: nothing can follow before {parser.next[1]!r}")
    return predicate


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match or not match.lastgroup:
            raise SelectorError(f"{text!r}: cannot be read from {text[at:]!r} on")
        value = match[match.lastgroup]
        if match.lastgroup == "string":
            value = value[1:-1]
        elif match.lastgroup == "call":
            value = value.rstrip("( \t")
        elif match.lastgroup == "words":
            value = " ".join(value.split())
        found.append((match.lastgroup, value))
        at = match.end()
    return found


class _Parser:
    """Recursive descent; each method reads one level of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)

    @property
    def next(self) -> Token:
        return self.tokens[0] if self.tokens else _END

    def take(self, kind: str, value: str | None = None) -> str:
        found = self.next
        if found[0] != kind or (value is not None and found[1] != value):
            raise SelectorError(f"{self.text!r}: expected {value or kind}, found {found[1]!r}")
        self.tokens.pop(0)
        return found[1]

    def either(self) -> Predicate:
        parts = [self.both()]
        while self.next == ("operator", "||"):
            self.tokens.pop(0)
            parts.append(self.both())
        return lambda labels: any(part(labels) for part in parts)

    def both(self) -> Predicate:
        parts = [self.one()]
        while self.next == ("operator", "&&"):
            self.tokens.pop(0)
            parts.append(self.one())
        return lambda labels: all(part(labels) for part in parts)

    def one(self) -> Predicate:
        if self.next == ("operator", "!"):
            self.tokens.pop(0)
            inner = self.one()
            return lambda labels: not inner(labels)
        if self.next == ("operator", "("):
            self.tokens.pop(0)
            whole = self.either()
            self.take("operator", ")")
            return whole
        if self.next[0] == "call":
            return self.call()
        return self.comparison(self.take("label"))

    def call(self) -> Predicate:
        name = self.take("call")
        if name == "has":
            label = self.take("label")
            self.take("operator", ")")
            return lambda labels: label in labels
        self.take("operator", ")")
        # global() selects what is in no namespace: nodes and namespaces themselves.
        return lambda _: True

    def comparison(self, label: str) -> Predicate:
        kind, operator = self.next
        if kind == "operator" and operator in ("==", "!="):
            self.tokens.pop(0)
            value = self.take("string")
            if operator == "==":
                return lambda labels: labels.get(label) == value
            return lambda labels: labels.get(label) != value
        operator = self.take("words")
        if operator in ("in", "not in"):
            values = self.values()
            if operator == "in":
                return lambda labels: labels.get(label) in values
            return lambda labels: labels.get(label) not in values
        value = self.take("string")
        tests: dict[str, Callable[[str], bool]] = {
            "starts with": lambda text: text.startswith(value),
            "ends with": lambda text: text.endswith(value),
            "contains": lambda text: value in text,
        }
        test = tests[operator]
        return lambda labels: label in labels and test(labels[label])

    def values(self) -> frozenset[str]:
        self.take("operator", "{")
        found = set()
        while self.next != ("operator", "}"):
            found.add(self.take("string"))
            if self.next == ("operator", ","):
                self.tokens.pop(0)
        self.take("operator", "}")
        return frozenset(found)
