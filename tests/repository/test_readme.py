"""What the README tells people to type and write exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from helpers.requirements import requirement_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_make_targets_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)\b", README))
    targets = set(re.findall(r"^([a-z -]+):", MAKEFILE, re.MULTILINE))
    known = {word for line in targets for word in line.split()}
    assert named, "the README names no make target"
    assert named <= known, named - known


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert links
    assert not missing, missing


def test_linked_sections_exist() -> None:
    for file, anchor in re.findall(r"\]\(([^)#]+)#([^)]+)\)", README):
        headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
        assert anchor in anchors, f"{file}#{anchor}"


def test_example_is_a_test_of_a_known_requirement() -> None:
    (source,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    requirement = requirement_of(function.name)
    assert ("family" in {a.arg for a in function.args.args}) is not requirement.pair
    docstring = ast.get_docstring(function) or ""
    assert all(f"{word}:" in docstring for word in ("Given", "Then", "Source"))
