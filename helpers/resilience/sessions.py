"""How long BGP sessions were not Established, from what the monitors in the node agents noted.

Graceful restart (RFC 4724) keeps routes while a session is away, so flows may notice nothing: of a
new route, and of the next failure, nobody would be told meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from helpers.model import FAMILIES, Family
from helpers.resilience.happenings import Event
from helpers.resilience.limits import LIMITS_FILE, LimitsError

ESTABLISHED: Final = "Established"
# "Mesh_10_243_0_2: Established -> Active", as helpers/agents/remote/monitors.py writes it.
CHANGE: Final = re.compile(r"(?P<name>\S+): (?P<was>.+) -> (?P<now>.+)")
_KEYS: Final = {"during", "longest", "reason"}


@dataclass(frozen=True, slots=True)
class Away:
    """One session that was not Established.

    Attributes:
        began: the harness's wall clock.
        ended: None: it was still away when watching ended.
    """

    node: str
    name: str
    family: Family
    began: float
    ended: float | None


def away(events: Iterable[Event]) -> list[Away]:
    """Each time that a session which had been Established was not, in order of their beginnings."""
    found: list[Away] = []
    began: dict[tuple[str, str, Family], float] = {}
    for event in sorted(events, key=lambda e: e.at):
        seen = CHANGE.fullmatch(event.text) if event.kind == "bgp" else None
        if seen is None or event.family is None:
            continue
        key = (event.where, seen["name"], event.family)
        if seen["was"] == ESTABLISHED:
            began.setdefault(key, event.at)
        elif seen["now"] == ESTABLISHED and key in began:
            found.append(Away(*key, began.pop(key), event.at))
    found += [Away(*key, at, None) for key, at in began.items()]
    return sorted(found, key=lambda a: a.began)


def longest_allowed(during: str) -> float:
    """Seconds that a session may be away during a requirement's disturbance.

    Raises:
        LimitsError: the file says nothing of it.
    """
    entries = yaml.safe_load(LIMITS_FILE.read_text(encoding="utf-8"))["sessions"]
    for entry in entries:
        if entry.keys() != _KEYS:
            raise LimitsError(f"sessions {dict(entry)}: the keys are {sorted(_KEYS)}, each once")
        if during in entry["during"]:
            return float(entry["longest"])
    raise LimitsError(f"{LIMITS_FILE.name}, sessions: nothing is said of {during}: add an entry")


def session_findings(
    during: str, events: Iterable[Event], until: float
) -> Mapping[Family, list[str]]:
    """Sessions that were away for longer than suites/flow_limits.yaml allows.

    Args:
        until: when watching ended, on the harness's wall clock.
    """
    allowed, found = longest_allowed(during), {family: list[str]() for family in FAMILIES}
    for each in away(events):
        seconds = (each.ended or until) - each.began
        if seconds > allowed:
            still = "" if each.ended else " and is not back"
            found[each.family].append(
                f"BGP session {each.name} of {each.node} was not Established for {seconds:.1f} s"
                f"{still}, allowed are {allowed:g} s: is TCP port 179 open between the nodes for "
                f"{each.family.kubernetes}?"
            )
    return found
