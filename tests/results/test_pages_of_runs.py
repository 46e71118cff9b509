"""A run ends with its page beside the results."""

from __future__ import annotations

import re

from tests.results.conftest import Project


def test_a_run_ends_with_a_page(project: Project) -> None:
    project.suite("def test_svc_007_x(family):\n    assert family == 'ipv4', 'only IPv4'\n")
    run = project.run("-n0")
    assert re.search(r"^page: +reports/out/\S+/report\.html$", run.output, re.MULTILINE)
    assert "only IPv4" in run.file("report.html")


def test_a_page_that_cannot_be_drawn_changes_nothing_else(project: Project) -> None:
    (project.root / "conftest.py").write_text(
        (project.root / "conftest.py").read_text()
        + "def broken(*_):\n    raise OSError('no space')\n"
        + "def pytest_sessionstart():\n    import reports.collect\n"
        + "    reports.collect.write = broken\n"
    )
    project.suite("def test_svc_007_x(family):\n    pass\n")
    run = project.run("-n0")
    assert run.code == 0
    assert "could not be drawn: OSError: no space" in run.output
    assert run.results["run"]["complete"]
