"""What a run of the suites exits with. The only place that decides it.

====  ==================================================================
code  meaning
====  ==================================================================
0     every core requirement that was asked for passed or was skipped
      with a reason
1     a core or extended requirement failed
2     usage error; also pytest's own code for Ctrl-C
3     no failure, but a core requirement is blocked or inconclusive, or
      the run did not end
4     no usable cluster
5     pytest's own: no test was selected
====  ==================================================================

Informational requirements never change the code. An option that pytest does not know is refused
by pytest before any plugin is asked, with pytest's own code 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from helpers.model import Level, Verdict
from reports.model import RequirementResult


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNDECIDED = 3
    NO_CLUSTER = 4
    NO_TESTS = 5


UNDECIDED = (Verdict.BLOCKED, Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Ending:
    """What else than verdicts a run ended with.

    ``no_cluster`` is the first error that said so; ``stopped`` is the code and the sentence of who
    ended the run early (Ctrl-C, ``pytest.exit``); ``missing`` counts tests without a verdict;
    ``harness_errors`` are failures of collection or of pytest itself.
    """

    no_cluster: str | None = None
    stopped: tuple[int, str] | None = None
    missing: int = 0
    harness_errors: tuple[str, ...] = ()


def exit_code(results: Sequence[RequirementResult], ending: Ending) -> tuple[int, str]:
    """The code and the sentence that explains it."""
    if ending.no_cluster is not None:
        return ExitCode.NO_CLUSTER, f"no usable cluster: {ending.no_cluster.splitlines()[0]}"
    if ending.stopped is not None:
        return ending.stopped
    failed = [r for r in results if r.verdict is Verdict.FAIL and _gates(r)]
    if failed:
        return ExitCode.FAILED, f"failed: {_named(failed)}"
    if ending.harness_errors:
        return ExitCode.UNDECIDED, f"the harness failed: {ending.harness_errors[0]}"
    undecided = [r for r in results if r.profile is Level.CORE and r.verdict in UNDECIDED]
    if undecided:
        return ExitCode.UNDECIDED, f"blocked or inconclusive: {_named(undecided)}"
    if ending.missing:
        return ExitCode.UNDECIDED, f"the run ended before {ending.missing} tests had a verdict"
    if not any(r.verdict is Verdict.PASS for r in results):
        return ExitCode.UNDECIDED, "nothing was decided: no requirement passed or failed"
    return ExitCode.OK, "all core requirements that were tested passed"


@dataclass(frozen=True, slots=True)
class GateEnding:
    """What the parts of an upgrade gate ended with, as sentences.

    ``failed_after``: parts that failed, of the upgrade and after it. ``undecided``: parts that
    were not decided or did not run. ``regressions``: verdicts that failed and had not before.
    ``unclear``: verdicts that are neither, e.g. of flows that saw too little.
    """

    failed_after: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    regressions: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()


def gate_code(found: GateEnding, ending: Ending) -> tuple[int, str]:
    """The code of an upgrade gate: 0 is a yes, and everything that is not clear is not one.

    What failed before the upgrade and does not fail after it is no reason against the upgrade;
    what was not decided before may have become worse unseen.
    """
    if ending.no_cluster is not None:
        return ExitCode.NO_CLUSTER, f"no usable cluster: {ending.no_cluster.splitlines()[0]}"
    if ending.stopped is not None:
        return ending.stopped
    if found.failed_after:
        return ExitCode.FAILED, f"it must not ship: {found.failed_after[0]}"
    if found.regressions:
        return ExitCode.FAILED, f"it must not ship, it got worse: {_some(found.regressions)}"
    if ending.harness_errors:
        return ExitCode.UNDECIDED, f"the harness failed: {ending.harness_errors[0]}"
    if found.undecided:
        return ExitCode.UNDECIDED, f"not decided: {found.undecided[0]}"
    if found.unclear:
        return ExitCode.UNDECIDED, f"not decided: {_some(found.unclear)}"
    return ExitCode.OK, "it may ship: conformant before and after, and no flow lost too much"


def _some(lines: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(lines) - shown} more" if len(lines) > shown else ""
    return ", ".join(lines[:shown]) + more


def _gates(result: RequirementResult) -> bool:
    return result.profile is not Level.INFORMATIONAL


def _named(results: Sequence[RequirementResult], shown: int = 10) -> str:
    names = [r.id if r.family == "pair" else f"{r.id} [{r.family}]" for r in results]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
