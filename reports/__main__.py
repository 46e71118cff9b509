"""``python -m reports``: read results of runs, compare them, and keep generated files fresh."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from helpers.faults.expectations import ExpectationError, expectations, sample
from helpers.requirements import RequirementError, requirements
from reports import packets_page, proof
from reports.bundle import bundle
from reports.diagnosis import diagnosed, page
from reports.diff import differences
from reports.docs import DOCS_FILE, render_for
from reports.faults_page import FAULTS_PAGE, faults_page, live
from reports.html.render import write
from reports.model import SCHEMA_FILE, ResultsError, read, schema
from reports.terminal import summary_lines

ROOT: Final = Path(__file__).resolve().parent.parent
LATEST: Final = ROOT / "reports" / "out" / "latest"


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: something got worse, or a generated file is stale; 2: usage error."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except (ResultsError, RequirementError, ExpectationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(required=True)
    html = commands.add_parser("html", help="the page of a run, made again from its results")
    html.add_argument("results", nargs="?", type=Path, default=LATEST, help="directory or file")
    html.add_argument("--old", type=Path, help="an earlier run to compare with")
    html.set_defaults(command=_html)
    show = commands.add_parser("show", help="the summary of a run, as it ended")
    show.add_argument("results", nargs="?", type=Path, default=LATEST, help="directory or file")
    show.set_defaults(command=_show)
    diff = commands.add_parser("diff", help="what changed; exit 1 if a requirement got worse")
    diff.add_argument("old", type=Path)
    diff.add_argument("new", nargs="?", type=Path, default=LATEST)
    diff.add_argument("--html", action="store_true", help="draw it in the page of NEW as well")
    diff.set_defaults(command=_diff)
    packets = commands.add_parser("packets", help="docs/extension-headers.md, made from a run")
    packets.add_argument("results", nargs="?", type=Path, default=LATEST, help="directory")
    packets.add_argument("--write", action="store_true", help="write it instead of printing it")
    packets.set_defaults(command=_packets)
    proofs = commands.add_parser("proof", help="runs with --prove, of some faults each, as one")
    proofs.add_argument("runs", nargs="+", type=Path, help="directories, the latest last")
    proofs.add_argument("--write", type=Path, metavar="DIR", help="prove.json and prove.md there")
    proofs.set_defaults(command=_proof)
    packed = commands.add_parser("bundle", help="one finding as a file that others can repeat")
    packed.add_argument("wanted", metavar="ID", help="e.g. SVC-007, or SVC-007-ipv6")
    packed.add_argument("results", nargs="?", type=Path, default=LATEST, help="directory or file")
    packed.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="default: here")
    packed.set_defaults(command=_bundle)
    docs = commands.add_parser(
        "docs", help="pages that are made from data, and the JSON Schema of results.json"
    )
    mode = docs.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write them")
    mode.add_argument("--check", action="store_true", help="exit 1 when one is stale")
    docs.set_defaults(command=_docs)
    return parser


def _proof(arguments: argparse.Namespace) -> int:
    runs = [proof.read_proof(run) for run in arguments.runs]
    whole = proof.merged(runs, expectations(), requirements(), ROOT)
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        proof.write(whole, arguments.write)
    for line in proof.table(whole):
        print(line)
    return 0


def _packets(arguments: argparse.Namespace) -> int:
    text = packets_page.page(
        read(arguments.results), packets_page.rows_of(_directory(arguments.results))
    )
    if arguments.write:
        (ROOT / packets_page.PAGE).write_text(text, encoding="utf-8")
        print(f"{packets_page.PAGE}: written")
    else:
        print(text, end="")
    return 0


def _html(arguments: argparse.Namespace) -> int:
    old = read(arguments.old) if arguments.old else None
    print(write(read(arguments.results), _directory(arguments.results), old))
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    run = arguments.results
    print(bundle(read(run), _directory(run), arguments.wanted, arguments.to))
    return 0


def _directory(run: Path) -> Path:
    return run if run.is_dir() else run.parent


def _show(arguments: argparse.Namespace) -> int:
    results = read(arguments.results)
    if not results.diagnoses:  # of a run that was killed, or of an earlier version
        results = diagnosed(results)
    run, cluster = results.run, results.cluster
    state = "" if run.complete else ", NOT COMPLETE"
    print(f"run {run.id}, {run.started:%Y-%m-%d %H:%M:%S} UTC, {run.seconds:.0f} s{state}")
    if cluster is not None:
        print(f"cluster {cluster.name}: Kubernetes {cluster.kubernetes}, Calico {cluster.calico}")
        for node in cluster.nodes:
            addresses = ", ".join(node.addresses)
            print(f"  {node.name}: {addresses}, kube-proxy {node.proxy_mode}, {node.kernel}")
    print()
    for line in summary_lines(results):
        print(line)
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    old, new = read(arguments.old), read(arguments.new)
    found = differences(old, new)
    for difference in found:
        print(difference.line())
    regressions = sum(difference.regression for difference in found)
    print(f"{len(found)} verdicts changed, {regressions} for the worse")
    if arguments.html:
        print(f"page: {write(new, _directory(arguments.new), old)}")
    return 1 if regressions else 0


def generated(root: Path) -> Mapping[Path, str]:
    """Files that are made from others, with the text they must have."""
    return {
        root / DOCS_FILE: render_for(root, requirements()),
        root / FAULTS_PAGE: faults_page(expectations(), sample(), live(root)),
        root / page.DOCS_FILE: page.render_for(root),
        root / SCHEMA_FILE.relative_to(ROOT): schema(),
    }


def _docs(arguments: argparse.Namespace) -> int:
    stale = [
        (path, text)
        for path, text in generated(ROOT).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if arguments.write:
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'written' if arguments.write else 'stale: make docs'}")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
