"""What outlives a request: asked how it is, and closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call


def op_report(call: Call) -> None:
    """State of what a handle stands for."""
    call.emit(0, call.kept(call.args["handle"]).report())


def op_close(call: Call) -> None:
    """Close what a handle stands for; its last report."""
    thing = call.release(call.args["handle"])
    report = thing.report() if hasattr(thing, "report") else {}
    thing.close()
    call.emit(0, report)
