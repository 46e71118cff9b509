"""From what a test raised to a verdict. One place, so that nothing undecided looks green.

==============================================  ============
what happened                                   verdict
==============================================  ============
the test returned                               pass
AssertionError, ``pytest.fail``                 fail
``helpers.verdicts.Blocked``                    blocked
``pytest.skip`` with a reason; expected to fail skipped
anything else, or anything in setup, teardown   inconclusive
==============================================  ============
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest
import pytest_timeout  # type: ignore[import-untyped]

from clusters.errors import EngineError, PreflightError, UnusableError
from helpers.model import Verdict
from helpers.verdicts import Blocked, Inconclusive

# A reason is read in a terminal and in JSON; the whole failure is in the evidence.
REASON_LIMIT: Final = 4000
# What pytest-timeout fails with: the test was cut off, so the requirement was not decided.
TIMEOUT_PREFIX: Final = pytest_timeout.PYTEST_FAILURE_MESSAGE.partition("%")[0]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why; ``reason`` is empty for a pass. ``no_cluster``: there was none to test."""

    verdict: Verdict
    reason: str = ""
    no_cluster: bool = False


def decide(
    report: pytest.TestReport, error: BaseException | None, *, xfail: str | None = None
) -> Decision | None:
    """The verdict of one phase of a test, None when the phase decides nothing.

    Args:
        report: pytest's report of the phase, as pytest itself would show it.
        error: what the phase raised, None when it returned.
        xfail: reason of an expected failure, when the test carries one.
    """
    expected = getattr(report, "wasxfail", None)
    if expected is not None and report.skipped:
        return Decision(Verdict.SKIPPED, f"expected to fail: {expected}{_observed(error)}")
    if error is None:
        return _returned(report, xfail)
    if isinstance(error, pytest.skip.Exception):
        return _skipped(str(error))
    if isinstance(error, Blocked):
        return Decision(Verdict.BLOCKED, _text(error))
    if is_no_cluster(error):
        return Decision(Verdict.INCONCLUSIVE, f"no cluster: {_text(error)}", no_cluster=True)
    if isinstance(error, Inconclusive):
        return Decision(Verdict.INCONCLUSIVE, _text(error))
    if report.when != "call":
        return Decision(Verdict.INCONCLUSIVE, f"{report.when} of the test: {_named(error)}")
    if isinstance(error, pytest.fail.Exception) and str(error).startswith(TIMEOUT_PREFIX):
        return Decision(Verdict.INCONCLUSIVE, f"the test ran out of time: {_text(error)}")
    if isinstance(error, AssertionError | pytest.fail.Exception):
        return Decision(Verdict.FAIL, _text(error))
    return Decision(Verdict.INCONCLUSIVE, f"defect of the harness: {_named(error)}")


def is_no_cluster(error: BaseException) -> bool:
    """Whether an error says that there is no usable cluster, whatever the test wanted of it."""
    return isinstance(error, UnusableError | PreflightError | EngineError)


def _returned(report: pytest.TestReport, xfail: str | None) -> Decision | None:
    if report.failed:  # strict xfail that passed: the mark is out of date
        return Decision(
            Verdict.INCONCLUSIVE,
            f"passes although marked as expected to fail ({xfail or 'no reason'}): "
            "remove the xfail mark",
        )
    return Decision(Verdict.PASS) if report.when == "call" else None


def _skipped(reason: str) -> Decision:
    if not reason.strip() or reason == "unconditional skip":
        return Decision(Verdict.INCONCLUSIVE, "skipped without a reason: pytest.skip(reason=...)")
    return Decision(Verdict.SKIPPED, reason)


def _observed(error: BaseException | None) -> str:
    return f" (observed: {_text(error).splitlines()[0]})" if error is not None else ""


def _text(error: BaseException) -> str:
    return _short(str(error).strip() or type(error).__name__)


def _named(error: BaseException) -> str:
    return _short(f"{type(error).__name__}: {error}".strip().rstrip(":"))


def _short(text: str) -> str:
    return text if len(text) <= REASON_LIMIT else f"{text[:REASON_LIMIT]} ... (cut; see evidence)"
