"""From results to the page: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from helpers.requirements import requirements
from reports.diff import Difference, differences
from reports.figures import Changes, attached
from reports.html import lanes, matrices, view
from reports.model import Results
from reports.terminal import first_line, label

PAGE_FILE: Final = "report.html"
TEMPLATES: Final = Path(__file__).parent / "templates"


def render(results: Results, directory: Path, old: Results | None = None) -> str:
    """The page as text.

    Args:
        results: of the run.
        directory: of the run: evidence is looked for there, and linked relative to it.
        old: an earlier run to compare with.
    """
    figures = attached(results, directory)
    nodes = [node.name for node in results.cluster.nodes] if results.cluster else []
    template = _environment(directory).get_template("page.html.j2")
    return template.render(
        results=results,
        run=results.run,
        cluster=results.cluster,
        gate=results.gate,
        ending=view.ending(results),
        because=view.because(results),
        about=view.about(results),
        tallies=[view.tally(f, results.requirements) for f in view.families(results)],
        groups=view.groups(results, requirements()),
        troubles=view.troubles(results),
        untested=view.untested(results),
        drawings=matrices.drawings(figures, nodes),
        timelines=lanes.timelines(figures, nodes),
        changes=[each.figure for each in figures if isinstance(each.figure, Changes)],
        waits=lanes.waits(results),
        comparison=_comparison(old, results) if old is not None else None,
    )


def write(results: Results, directory: Path, old: Results | None = None) -> Path:
    """Write the page beside the results; its path."""
    path = directory / PAGE_FILE
    path.write_text(render(results, directory, old), encoding="utf-8")
    return path


def _comparison(old: Results, new: Results) -> dict[str, Any]:
    found: Sequence[Difference] = differences(old, new)
    return {
        "old": old,
        "differences": found,
        "worse": sum(each.regression for each in found),
        "about": _about_clusters(old, new),
    }


def _about_clusters(old: Results, new: Results) -> list[tuple[str, str, str]]:
    """What is not the same of the two clusters themselves."""
    seen = [_facts_of(old), _facts_of(new)]
    names = dict.fromkeys([*seen[0], *seen[1]])
    pairs = ((name, seen[0].get(name, "none"), seen[1].get(name, "none")) for name in names)
    return [each for each in pairs if each[1] != each[2]]


def _facts_of(results: Results) -> dict[str, str]:
    cluster = results.cluster
    if cluster is None:
        return {}
    found = {
        "Kubernetes": cluster.kubernetes or "unknown",
        "Calico": cluster.calico or "unknown",
        "pod CIDRs": ", ".join(cluster.pod_cidrs),
        "Service CIDRs": ", ".join(cluster.service_cidrs),
        "nodes": str(len(cluster.nodes)),
    }
    for what in ("proxy_mode", "kernel"):
        values = sorted({str(getattr(node, what)) for node in cluster.nodes})
        found[what.replace("_", " ")] = ", ".join(values)
    return found


def _environment(directory: Path) -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "family": lambda name: view.FAMILY_TITLES[name],
        "first_line": first_line,
        "label": label,
        "span": lanes.seconds,
        "duration": _duration,
        "words": shlex.join,
    }
    made.globals |= {
        "link": lambda file: _link(directory, file),
        "css": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704
    }
    return made


def _duration(value: float) -> str:
    """``45 s`` or ``3 min 20 s``."""
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def _link(directory: Path, file: str) -> str | None:
    """Where evidence is, from the page; None when it is not there any more."""
    return quote(file) if (directory / file).is_file() else None
